using KamOtel.Diagnosis;

namespace KamOtel.Bpf;

/// <summary>What a process takes for the name of its host.</summary>
/// <param name="Process">The process.</param>
/// <param name="Namespace">The inode of its UTS namespace: who has another one may have another name.</param>
/// <param name="Name">The name, as the kernel has it.</param>
public sealed record HostName(ProcessId Process, uint Namespace, string Name);
