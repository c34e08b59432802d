namespace KamOtel.Dashboards;

/// <summary>The dashboards, from the whole to the parts.</summary>
internal static class AllDashboards
{
    public static IReadOnlyList<Dashboard> InOrder { get; } = [FleetDashboard.Make(), InstanceDashboard.Make(), AgentDashboard.Make()];
}
