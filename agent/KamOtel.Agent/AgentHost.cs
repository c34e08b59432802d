using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;

namespace KamOtel.Agent;

/// <summary>Composes the agent: watch loop, telemetry, HTTP.</summary>
internal static partial class AgentHost
{
    /// <summary>By it an agent is known; the version is nobody's business who only connects.</summary>
    public const string ServerHeader = "kamotel";

    private static readonly TimeSpan StopWithin = TimeSpan.FromSeconds(4);

    /// <summary>Runs until a signal comes, or the recording ends. Returns the exit code.</summary>
    /// <exception cref="KamOtel.Bpf.BpfException">The machine cannot do it.</exception>
    /// <exception cref="IOException">The address is taken or not ours.</exception>
    public static async Task<int> RunAsync(RunOptions options, StoryPrinter? story, Recorder? recorder, CancellationToken cancellation)
    {
        // The host listens for signals only once it starts; one that comes before it shall end it as well.
        using var early = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        using var terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, End);
        using var interrupted = PosixSignalRegistration.Create(PosixSignal.SIGINT, End);
        void End(PosixSignalContext signal)
        {
            signal.Cancel = true;
            early.Cancel();
        }
        var manager = ServiceManager.From(Environment.GetEnvironmentVariable, Environment.ProcessId);
        await using WebApplication app = Build(options, story, services =>
        {
            services.AddSingleton(manager);
            if (recorder is not null)
            {
                services.AddSingleton(recorder).AddSingleton<IFleetJournal>(recorder).AddHostedService<RecorderService>();
            }
            services.AddHostedService<WatchLoop>();
        });
        ILogger logger = LoggerOf(app);
        foreach (string warning in Settings.Warnings(options, Environment.GetEnvironmentVariables().Keys.Cast<string>()))
        {
            Doubtful(logger, warning);
        }
        using CancellationTokenRegistration stopping = app.Lifetime.ApplicationStopping.Register(manager.Stopping);
        try
        {
            await app.StartAsync(early.Token);
        }
        catch (OperationCanceledException) when (early.IsCancellationRequested || app.Lifetime.ApplicationStopping.IsCancellationRequested)
        {
            // A signal during the start: what had started already ends in order.
            await app.StopAsync(CancellationToken.None);
            return Environment.ExitCode;
        }
        catch (Exception e) when (e is SocketException or IOException { InnerException: AddressInUseException })
        {
            throw new IOException($"{options.Listen} cannot be listened on: {(e.InnerException ?? e).Message}; choose another address with --listen", e);
        }
        foreach (string address in app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()?.Addresses ?? [])
        {
            Listening(logger, address);
        }
        manager.Ready(app.Services.GetRequiredService<AgentState>().NotReady);
        await app.WaitForShutdownAsync(early.Token);
        return Environment.ExitCode;
    }

    /// <summary>The host, not started.</summary>
    /// <param name="addWatch">Registers what watches: the watch loop, or a test's own.</param>
    /// <param name="origin">Where what the status page shows comes from; null for this host, watched from now on.</param>
    /// <exception cref="IOException">A certificate, a key or the passwords cannot be read.</exception>
    /// <exception cref="UsageException">They are not what they should be.</exception>
    public static WebApplication Build(RunOptions options, StoryPrinter? story, Action<IServiceCollection> addWatch, StatusOrigin? origin = null)
    {
        var access = HttpAccess.Load(options);
        // No file is served: the default, the working directory, may be gone.
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions { ApplicationName = "kamotel", ContentRootPath = "/" });
        builder.Logging.SetMinimumLevel(options.LogLevel);
        builder.Logging.AddFilter("Microsoft", LogLevel.Warning);
        // It logs what fails the start, and throws it: once is enough, and the command line says it better.
        builder.Logging.AddFilter("Microsoft.Extensions.Hosting.Internal.Host", LogLevel.None);
        builder.Logging.AddProvider(new StderrLoggerProvider(StandardStreams.Error, options.LogJson));
        builder.WebHost.UseKestrelCore().ConfigureKestrel(access.Configure);
        if (options.Listen is null)
        {
            // Without an address it would choose one itself.
            builder.Services.AddSingleton<IServer, NoServer>();
        }
        IServiceCollection services = builder.Services;
        services.AddRoutingCore();
        services.Configure<HostOptions>(static host => host.ShutdownTimeout = StopWithin);
        services.AddSingleton(options);
        // Of a recording all that is in it is shown. Where nothing is served nobody asks what happened.
        ServerHistories? histories = options.Listen is null ? null : new(origin is null ? ServerHistories.MaxEnded : ServerHistories.MaxServers);
        services.AddSingleton(new AgentState(histories));
        services.AddSingleton<TelemetryCounters>();
        services.AddSingleton<Exemplars>();
        services.AddSingleton<Instruments>();
        services.AddSingleton<TelemetrySink>();
        services.AddSingleton(origin ?? new StatusOrigin(DateTimeOffset.UtcNow, [.. options.Watch], Recording: null));
        services.AddSingleton(_ => access);
        services.AddSingleton<RequestGuard>();
        services.AddSingleton<MetricsPage>();
        services.AddSingleton<StatusReports>();
        services.AddSingleton<StatusPage>();
        services.AddSingleton<IFleetSink>(provider =>
        {
            IFleetSink telemetry = provider.GetRequiredService<TelemetrySink>();
            IFleetSink told = histories is null ? telemetry : new CompositeSink(histories, telemetry);
            return story is null ? told : new CompositeSink(story, told);
        });
        services.AddSingleton<OtlpSettings>(static _ => OtlpSettings.FromEnvironment(Environment.GetEnvironmentVariable));
        services.AddHostedService<TelemetryExport>();
        addWatch(services);

        WebApplication app = builder.Build();
        AgentState state = app.Services.GetRequiredService<AgentState>();
        ILogger logger = LoggerOf(app);
        access.LogTo(logger);
        foreach ((string seen, string remedy) in access.Warnings())
        {
            Doubtful(logger, $"{seen}; {remedy}");
        }
        app.Use(app.Services.GetRequiredService<RequestGuard>().PassAsync);
        Page(app, "/metrics", app.Services.GetRequiredService<MetricsPage>().AnswerAsync);
        Page(app, "/healthz", static context => context.Response.WriteAsync("alive\n"));
        Page(app, "/readyz", context =>
        {
            string? reason = state.WhyNotReady();
            context.Response.StatusCode = (int)(reason is null ? HttpStatusCode.OK : HttpStatusCode.ServiceUnavailable);
            return context.Response.WriteAsync((reason ?? "ready") + "\n");
        });
        Page(app, "/docs/{**path}", Guides.AnswerAsync);
        StatusPage page = app.Services.GetRequiredService<StatusPage>();
        Page(app, "/page/{name}", StatusPage.AnswerAsync);
        Page(app, "/api/fleet", page.AnswerFleetAsync);
        Page(app, "/api/instances/{id}", page.AnswerInstanceAsync);
        Page(app, "/api/events", page.StreamAsync);
        Page(app, "/", StatusPage.AnswerAsync);
        return app;
    }

    /// <summary>Serves nothing.</summary>
    private sealed class NoServer : IServer
    {
        public IFeatureCollection Features { get; } = new FeatureCollection();

        public Task StartAsync<TContext>(IHttpApplication<TContext> application, CancellationToken cancellationToken)
            where TContext : notnull => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public void Dispose()
        {
        }
    }

    private static ILogger LoggerOf(WebApplication app) => app.Services.GetRequiredService<ILoggerFactory>().CreateLogger("kamotel");

    /// <summary>A page to GET; to HEAD it answers the same, and the server leaves the body out.</summary>
    private static void Page(WebApplication app, string path, RequestDelegate answer) =>
        app.MapMethods(path, [HttpMethods.Get, HttpMethods.Head], answer);

    [LoggerMessage(Level = LogLevel.Information, Message = "listening on {Address}")]
    private static partial void Listening(ILogger logger, string address);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Message}")]
    private static partial void Doubtful(ILogger logger, string message);
}
