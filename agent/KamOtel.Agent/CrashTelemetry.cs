using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>Crashes and complaints as log events and spans tell them: with the same attributes.</summary>
internal static class CrashTelemetry
{
    /// <summary>Some who draw spans leave those of no length out.</summary>
    private const ulong PointNs = 1000;

    /// <summary>From the signal to the end of the process.</summary>
    public static TraceSpan SpanOf(InstanceContext instance, Crash crash)
    {
        var span = new TraceSpan($"{instance.Program} crash", crash.TimeNs, Math.Max(crash.EndNs, crash.TimeNs + PointNs)) { Error = Words.Of(crash) };
        span.Attributes.Set("process.pid", (long)crash.Process.Tgid);
        span.Attributes.Set("thread.id", (long?)crash.Tid);
        span.Attributes.Set("process.executable.name", instance.Program);
        span.Attributes.Set("kamotel.target", instance.Target);
        span.Attributes.Set("kamotel.instance", instance.Id.ToString());
        span.Attributes.AddRange(ContainerAttributes.Of(instance));
        span.Attributes.AddRange(AttributesOf(crash));
        span.Attributes.Set("kamotel.runbook.url", Words.CrashRunbook);
        return span;
    }

    /// <summary>Where OpenTelemetry has a word for it, that one.</summary>
    public static TraceAttributes AttributesOf(Crash crash)
    {
        var attributes = new TraceAttributes();
        attributes.Set("kamotel.signal", Words.SignalName(crash.Signal));
        attributes.Set("kamotel.role", Words.Of(crash.Role));
        attributes.Set("kamotel.module", crash.Module);
        attributes.Set("code.stacktrace", crash.Chain.Frames.IsEmpty ? null : crash.Chain.Stacktrace);
        if (crash.Module is null)
        {
            attributes.Set("kamotel.chain.end", Words.Of(crash.Chain.End));
            attributes.Set("kamotel.chain.detail", crash.Chain.WhyUnknown);
        }
        Add(attributes, crash.LastCall);
        attributes.Set("kamotel.inherited_slots", (long)crash.InheritedSlots);
        return attributes;
    }

    public static TraceAttributes AttributesOf(Complaint complaint, in ComplaintContext context)
    {
        var attributes = new TraceAttributes();
        attributes.Set("kamotel.complaint", Words.Of(complaint.Kind));
        attributes.Set("kamotel.role", Words.Of(context.Role));
        attributes.Set("kamotel.module", complaint.Module);
        attributes.Set("kamotel.caller", complaint.Caller);
        attributes.Set("kamotel.address", complaint.Address is { } address ? $"0x{address:x}" : null);
        attributes.Set("kamotel.address.relation", complaint.IsDamage ? Words.Of(context.Address) : null);
        attributes.Set("kamotel.complaints.left_out", context.LeftOut > 0 ? context.LeftOut : null);
        Add(attributes, context.LastCall);
        return attributes;
    }

    private static void Add(TraceAttributes attributes, LastCall? call)
    {
        attributes.Set("kamotel.last_call", call is null ? null : Words.Of(call.Call));
        attributes.Set("kamotel.last_call.key", (long?)call?.Key);
        attributes.Set("kamotel.last_call.slot", call?.Slot);
        attributes.Set("kamotel.last_call.before", call?.BeforeNs / 1e9);
    }
}
