using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>A server's container on spans and log events, by OpenTelemetry's names where it has them. <c>host.name</c> is the node's.</summary>
internal static class ContainerAttributes
{
    public static TraceAttributes Of(InstanceContext instance)
    {
        var attributes = new TraceAttributes();
        Container? container = instance.Container;
        attributes.Set("container.id", container?.Id);
        attributes.Set("kamotel.container.host_name", container?.HostName);
        attributes.Set("k8s.pod.uid", container?.PodUid);
        attributes.Set("k8s.pod.name", container?.PodName);
        return attributes;
    }
}
