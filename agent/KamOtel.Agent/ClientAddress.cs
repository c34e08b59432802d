using System.Net;

namespace KamOtel.Agent;

/// <summary>Whom a connection comes from, as far as limits are concerned.</summary>
internal static class ClientAddress
{
    /// <summary>The address; of IPv6 its network, for one host can have all addresses of it.</summary>
    public static IPAddress Of(IPAddress address)
    {
        if (address.IsIPv4MappedToIPv6)
        {
            return address.MapToIPv4();
        }
        byte[] bytes = address.GetAddressBytes();
        if (bytes.Length == 16)
        {
            bytes.AsSpan(8).Clear();
        }
        return new IPAddress(bytes);
    }
}
