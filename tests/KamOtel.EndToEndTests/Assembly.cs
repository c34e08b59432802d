using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using Xunit.Sdk;
using Xunit.v3;

// The machine's kernel, its ports and its processors are shared: one test at a time.
[assembly: Parallelization(Mode = ParallelMode.None)]
[assembly: DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
[assembly: SupportedOSPlatform("linux")]
