using System.Collections.Concurrent;
using System.Net;
using Microsoft.AspNetCore.Connections;

namespace KamOtel.Agent;

/// <summary>One address does not get all connections: whoever opens as many as there are would keep Prometheus out.</summary>
internal sealed class ConnectionLimit(int most)
{
    private readonly ConcurrentDictionary<IPAddress, int> _open = new();

    /// <summary>Stands before everything else, TLS included.</summary>
    public ConnectionDelegate Before(ConnectionDelegate next) => async connection =>
    {
        IPAddress address = ClientAddress.Of((connection.RemoteEndPoint as IPEndPoint)?.Address ?? IPAddress.None);
        try
        {
            if (_open.AddOrUpdate(address, 1, static (_, open) => open + 1) <= most)
            {
                await next(connection);
            }
            else
            {
                connection.Abort(new ConnectionAbortedException("too many connections from this address"));
            }
        }
        finally
        {
            if (_open.AddOrUpdate(address, 0, static (_, open) => open - 1) == 0)
            {
                // Only as it is: somebody may have come meanwhile.
                _ = _open.TryRemove(KeyValuePair.Create(address, 0));
            }
        }
    };
}
