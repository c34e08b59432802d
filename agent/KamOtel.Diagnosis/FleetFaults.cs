namespace KamOtel.Diagnosis;

/// <content>What servers themselves say is wrong with their memory.</content>
public sealed partial class Fleet
{
    /// <summary>The server's memory manager complained, in the process and thread of <paramref name="observation"/>.</summary>
    public void Complained(in Observation observation, Complaint complaint)
    {
        ArgumentNullException.ThrowIfNull(complaint);
        Reach(observation.TimeNs);
        if (Locate(in observation) is var (instance, _))
        {
            instance.Changed = true;
        }
    }
}
