namespace KamOtel.Agent;

/// <summary>How <c>kamotel</c> ends. The numbers above 63 are those of <c>sysexits.h</c>.</summary>
internal static class ExitCode
{
    /// <summary>All went well.</summary>
    public const int Ok = 0;

    /// <summary>scan, check: a server has a hazard, or worse.</summary>
    public const int Hazard = 1;

    /// <summary>scan, check: nobody can tell: a server could not be judged, or there is none.</summary>
    public const int CouldNotTell = 2;

    /// <summary>doctor: a feature does not work on this machine.</summary>
    public const int Degraded = 1;

    /// <summary>doctor: <c>kamotel run</c> would not start on this machine.</summary>
    public const int Unusable = 2;

    /// <summary>The command line, the environment or the configuration file is wrong.</summary>
    public const int Usage = 64;

    /// <summary>replay: the file is no recording, or of a version that this kamotel does not know.</summary>
    public const int DataError = 65;

    /// <summary>replay: the file is not there or cannot be read.</summary>
    public const int NoInput = 66;

    /// <summary>Something that is needed is not there: BTF, libbpf, the port.</summary>
    public const int Unavailable = 69;

    /// <summary>A fault of ours.</summary>
    public const int Software = 70;

    /// <summary>record: the file is there already, or cannot be made. check: the report cannot be made.</summary>
    public const int CannotCreate = 73;

    /// <summary>record: the recording could not be written to its end. check: the report could not.</summary>
    public const int OutputError = 74;

    /// <summary>A privilege is missing.</summary>
    public const int NoPermission = 77;

    /// <summary>check: the command's program is there, and cannot be executed. As env(1) has it.</summary>
    public const int CannotExecute = 126;

    /// <summary>check: the command's program is not there. As env(1) has it.</summary>
    public const int NotFound = 127;
}
