using KamOtel.Dashboards;

namespace KamOtel.Tests.Agent;

/// <summary>The table of the chart's values is read out of <c>values.yaml</c>.</summary>
public sealed class ChartValueTests
{
    [Fact]
    public void A_value_has_its_path_its_default_and_the_comment_before_it() =>
        ChartValue.Read("""
            # About the file.

            image:
              # -- Where it is;
              # not with a tag.
              name: ""
            # -- Text that looks like a number, a number and a switch.
            all: {port: "80", seconds: 0.5, on: true, names: [a, b]}
            """).ShouldBe(
        [
            new ChartValue("image.name", "\"\"", "Where it is; not with a tag."),
            new ChartValue("all", """{"port":"80","seconds":0.5,"on":true,"names":["a","b"]}""", "Text that looks like a number, a number and a switch."),
        ]);

    [Fact]
    public void A_value_without_a_description_is_an_error_that_names_it() =>
        Should.Throw<InvalidOperationException>(static () => ChartValue.Read("""
            image:
              # What it is.
              name: ""
            """)).Message.ShouldContain("image.name has no description");
}
