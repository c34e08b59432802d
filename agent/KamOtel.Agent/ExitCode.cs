namespace KamOtel.Agent;

/// <summary>How <c>kamotel</c> ends. The numbers above 63 are those of <c>sysexits.h</c>.</summary>
internal static class ExitCode
{
    /// <summary>All went well.</summary>
    public const int Ok = 0;

    /// <summary>scan: a server has a hazard, or worse.</summary>
    public const int Hazard = 1;

    /// <summary>scan: nobody can tell: a server could not be judged, or there is none.</summary>
    public const int CouldNotTell = 2;

    /// <summary>The command line, the environment or the configuration file is wrong.</summary>
    public const int Usage = 64;

    /// <summary>Something that is needed is not there: BTF, libbpf, the port.</summary>
    public const int Unavailable = 69;

    /// <summary>A fault of ours.</summary>
    public const int Software = 70;

    /// <summary>A privilege is missing.</summary>
    public const int NoPermission = 77;
}
