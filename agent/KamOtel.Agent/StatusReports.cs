using System.Text.Json;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>
/// What the status page is told, as JSON: made when somebody asks, once for all who do. Any thread.
/// </summary>
internal sealed class StatusReports(AgentState state, StatusOrigin origin, TelemetryCounters telemetry)
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, byte[]?> _instances = new(StringComparer.Ordinal);
    private AgentSnapshot? _of;
    private string? _notReady;
    private byte[] _timeless = [];
    private byte[] _fleet = [];

    /// <summary>All servers. The same bytes as before when nothing but the time is new.</summary>
    public byte[] Fleet()
    {
        lock (_lock)
        {
            Refresh();
            return _fleet;
        }
    }

    /// <summary>One server; null when it is not known.</summary>
    /// <param name="id">As in <see cref="InstanceSummary.Id"/>.</param>
    public byte[]? Instance(string id)
    {
        lock (_lock)
        {
            Refresh();
            if (!_instances.TryGetValue(id, out byte[]? json))
            {
                json = _of!.Servers.FirstOrDefault(s => InstanceSummary.IdOf(s.Id) == id) is { } server
                    ? JsonSerializer.SerializeToUtf8Bytes(InstanceReport.Of(server, _of.History.Of(server.Id)), ReportJson.Compact.InstanceReport)
                    : null;
                if (json is not null)
                {
                    _instances[id] = json;
                }
            }
            return json;
        }
    }

    private void Refresh()
    {
        AgentSnapshot now = state.Current;
        string? notReady = state.WhyNotReady();
        if (ReferenceEquals(now, _of) && notReady == _notReady)
        {
            return;
        }
        _of = now;
        _notReady = notReady;
        _instances.Clear();
        FleetReport report = FleetReport.Of(now, AgentReport.Of(now, origin, notReady, telemetry));
        byte[] timeless = JsonSerializer.SerializeToUtf8Bytes(report with { Time = default }, ReportJson.Compact.FleetReport);
        if (!timeless.AsSpan().SequenceEqual(_timeless))
        {
            _timeless = timeless;
            _fleet = JsonSerializer.SerializeToUtf8Bytes(report, ReportJson.Compact.FleetReport);
        }
    }
}
