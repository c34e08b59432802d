namespace KamOtel.Dashboards;

/// <summary>How soon somebody has to look.</summary>
internal enum Severity
{
    /// <summary>Now: calls are being lost.</summary>
    Critical,

    /// <summary>In working hours: it will get worse, or nobody would see that it does.</summary>
    Warning,

    /// <summary>To be known; nobody is called.</summary>
    Info,
}

/// <summary>One alert, of which every form is made: Prometheus's, the operator's and Grafana's.</summary>
/// <param name="Name">Its name in all of them.</param>
/// <param name="Severity">Its label <c>severity</c>.</param>
/// <param name="Runbook">The page in docs/runbooks that tells what to do, without <c>.md</c>.</param>
/// <param name="For">How long the expression must hold: a duration of Prometheus.</param>
/// <param name="Expression">
/// PromQL that yields one series for each thing that is wrong, and none when all is well. Its values are never negative:
/// Grafana asks whether a value is above −1.
/// </param>
/// <param name="Summary">
/// One line: where, what, whose doing, and the remedy. Go template; <c>.Labels</c> and not <c>$labels</c>, as Grafana puts
/// variables of its environment in the place of the latter. <see cref="Blame.Placeholder"/> and <see cref="ValuePlaceholder"/> are filled in for each form.
/// </param>
/// <param name="Description">What it means, for who has never seen it.</param>
internal sealed record Alert(string Name, Severity Severity, string Runbook, string For, string Expression, string Summary, string Description)
{
    /// <summary>Where a text has the expression's value.</summary>
    public const string ValuePlaceholder = "[value]";

    /// <summary>What the texts name besides the alert's own labels, or null.</summary>
    public Blame? Blame { get; init; }

    /// <summary>False where it says that an agent does not answer, or that there is none: then it serves no runbook either.</summary>
    public bool AgentAnswers { get; init; } = true;
}

/// <summary>
/// Whom an alert names: author, module, gap. They are in its annotations and not among its labels, for labels say which alert it
/// is: when the agent is restarted it no longer knows who set a slot, and the alert would end and another one begin.
/// </summary>
/// <param name="Label">The label that has the name, and the annotation's name.</param>
/// <param name="Others">Further labels of the series that the alert does not have, separated by commas.</param>
/// <param name="Series">
/// PromQL that yields series with these labels and those of the alert. Its argument goes into the braces of every selector, with
/// a comma at its end, or is empty.
/// </param>
internal sealed record Blame(string Label, string Others, Func<string, string> Series)
{
    /// <summary>Where a text has the names.</summary>
    public string Placeholder => $"[{Label}]";
}
