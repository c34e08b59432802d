using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;

namespace KamOtel.Agent;

/// <summary>What an agent tells of the drill's server.</summary>
/// <param name="Instance">Its id.</param>
/// <param name="Target">What it is called.</param>
/// <param name="Verdict">The verdict.</param>
/// <param name="Reason">Why.</param>
/// <param name="SharedSlots">How many slots its processes share.</param>
/// <param name="Holders">How many processes hold one.</param>
/// <param name="CallSeen">The call that set the slot was seen.</param>
/// <param name="Ended">It knows that the server has ended.</param>
internal sealed record DrillSighting(string Instance, string Target, string Verdict, string Reason, int SharedSlots, int Holders, bool CallSeen, bool Ended);

/// <summary>The agent that a drill asks.</summary>
internal sealed class DrillAgent : IDisposable
{
    private readonly HttpClient _client;

    /// <param name="address">Where it serves; a name and a password in it go along.</param>
    public DrillAgent(Uri address)
    {
        _client = new HttpClient { BaseAddress = new UriBuilder(address) { UserName = "", Password = "" }.Uri, Timeout = TimeSpan.FromSeconds(5) };
        if (address.UserInfo.Length > 0)
        {
            _client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes(Uri.UnescapeDataString(address.UserInfo))));
        }
    }

    /// <summary>What it is, without what it knows of servers.</summary>
    /// <exception cref="IOException">Nobody answers, or it is no agent; the message says why.</exception>
    public async Task<JsonObject> DescribeAsync(CancellationToken cancellation) =>
        (await GetAsync("/api/fleet", cancellation))?["agent"] as JsonObject ?? throw new IOException($"{_client.BaseAddress} is no kamotel");

    /// <summary>The drill's server, or null while the agent does not know it.</summary>
    /// <param name="pid">Its main process: looked at first, as it may be another one's number where the agent is.</param>
    /// <param name="value">The pointer that its processes share.</param>
    /// <param name="cancellation">Ends the question.</param>
    /// <exception cref="IOException">As above.</exception>
    public async Task<DrillSighting?> FindAsync(int pid, string value, CancellationToken cancellation)
    {
        JsonObject fleet = await GetAsync("/api/fleet", cancellation) ?? throw new IOException($"{_client.BaseAddress} is no kamotel");
        foreach (JsonNode? summary in fleet["instances"]!.AsArray().OrderByDescending(one => (int)one!["rootPid"]! == pid))
        {
            if (await FindAsync((string)summary!["id"]!, value, cancellation) is { } found)
            {
                return found;
            }
        }
        return null;
    }

    /// <summary>The same of one server that may be it.</summary>
    public async Task<DrillSighting?> FindAsync(string instance, string value, CancellationToken cancellation)
    {
        if (await GetAsync($"/api/instances/{instance}", cancellation) is not { } server)
        {
            return null;
        }
        JsonArray slots = server["slots"]!.AsArray();
        bool holds = slots.Concat(server["processes"]!.AsArray().SelectMany(static p => p!["slots"]!.AsArray())).Any(slot => (string?)slot!["value"] == value);
        JsonNode summary = server["summary"]!;
        return holds
            ? new DrillSighting(
                instance,
                (string)summary["target"]!,
                (string)summary["verdict"]!,
                (string)summary["reason"]!,
                (int)summary["sharedSlots"]!,
                (int)summary["holders"]!,
                slots.Any(slot => (string?)slot!["value"] == value && slot["atMs"] is not null),
                summary["ended"] is not null)
            : null;
    }

    public void Dispose() => _client.Dispose();

    private async Task<JsonObject?> GetAsync(string path, CancellationToken cancellation)
    {
        try
        {
            using HttpResponseMessage answer = await _client.GetAsync(new Uri(path, UriKind.Relative), cancellation);
            if (answer.StatusCode == System.Net.HttpStatusCode.NotFound && path != "/api/fleet")
            {
                return null;
            }
            if (answer.StatusCode == System.Net.HttpStatusCode.Unauthorized)
            {
                throw new IOException($"{_client.BaseAddress} {(_client.DefaultRequestHeaders.Authorization is null ? "asks for a password: --agent http://NAME:PASSWORD@HOST:PORT" : "does not know this name and password")}");
            }
            string text = await answer.Content.ReadAsStringAsync(cancellation);
            return answer.IsSuccessStatusCode
                ? JsonNode.Parse(text) as JsonObject ?? throw new IOException($"{_client.BaseAddress} is no kamotel")
                : throw new IOException($"{_client.BaseAddress} answers {(int)answer.StatusCode}: {text.Split('\n')[0]}");
        }
        catch (Exception e) when (e is HttpRequestException or System.Text.Json.JsonException || (e is TaskCanceledException && !cancellation.IsCancellationRequested))
        {
            string hint = e is HttpRequestException { HttpRequestError: HttpRequestError.ResponseEnded } && _client.BaseAddress!.Scheme == "http" ? "; if it serves HTTPS, ask https://" : "";
            throw new IOException($"{_client.BaseAddress} does not answer as a kamotel: {(e.InnerException ?? e).Message}{hint}", e);
        }
    }
}
