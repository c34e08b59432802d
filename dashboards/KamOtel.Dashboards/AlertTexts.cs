using KamOtel.Agent;

namespace KamOtel.Dashboards;

/// <summary>An alert's annotations, in the order in which they are written.</summary>
internal static class AlertTexts
{
    /// <summary>
    /// What stands before a runbook's path: the agent of which an alert is serves the documentation of its own version, at the
    /// address that Prometheus scrapes. Who publishes it elsewhere changes this line and nothing else, and runs <c>make dashboards</c>.
    /// </summary>
    public const string RunbookBase = "http://{{ .Labels.instance }}/";

    /// <param name="alert">The alert.</param>
    /// <param name="value">Template for the expression's value.</param>
    /// <param name="blamed">Template for whom it names.</param>
    public static IEnumerable<(string Name, string Template)> Of(Alert alert, string value, string blamed)
    {
        string Fill(string text) =>
            alert.Blame is { } blame ? text.Replace(blame.Placeholder, blamed) : text;

        yield return ("summary", Fill(alert.Summary).Replace(Alert.ValuePlaceholder, value));
        yield return ("description", alert.Description);
        if (alert.Blame is { } blame)
        {
            yield return (blame.Label, blamed);
        }
        yield return ("runbook_url", RunbookUrl(alert));
    }

    /// <summary>Where the runbook is read; the path in the repository where the agent that would serve it does not answer.</summary>
    public static string RunbookUrl(Alert alert) => (alert.AgentAnswers ? RunbookBase : "") + Words.Runbook(alert.Runbook);

    /// <summary>The label <c>severity</c>.</summary>
    public static string Word(Severity severity) => severity.ToString().ToLowerInvariant();
}
