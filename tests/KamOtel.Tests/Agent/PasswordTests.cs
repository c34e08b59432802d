using System.Net;
using System.Text;
using KamOtel.Agent;

namespace KamOtel.Tests.Agent;

/// <summary>Who is let in, and what guessing costs.</summary>
public sealed class PasswordTests
{
    /// <summary>Made by another implementation, libxcrypt: what htpasswd calls.</summary>
    private const string Users =
        """
        # Prometheus, and people.
        prometheus:$2y$04$KamOtelKamOtelKamOteluac.WhOvIx2RVlpYMr6csbkgW5JjHSPC

        zoë:$2b$05$KamOtelKamOtelKamOteluheuaPFIrAaZ/yPNWoIi8QaMIY6RlgFG
        long:$2a$04$KamOtelKamOtelKamOteluWmHqvyBzFgMncdJGa57BpOKpv55bJ9a

        """;

    private static readonly NamedFile File = new("/etc/kamotel/users", "--basic-auth");
    private static readonly IPAddress Here = IPAddress.Parse("192.0.2.1");

    private readonly ManualTime _time = new();

    private static CancellationToken Ending => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("prometheus", "open sesame", true)]
    [InlineData("prometheus", "Open sesame", false)]
    [InlineData("prometheus", "", false)]
    [InlineData("Prometheus", "open sesame", false)]
    [InlineData("", "open sesame", false)]
    [InlineData("nobody", "open sesame", false)]
    [InlineData("zoë", "Zürich ☃", true)]
    [InlineData("zoë", "a:b", false)]
    // 72 bytes count, as everywhere.
    [InlineData("long", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", true)]
    [InlineData("prometheus", "open\0sesame", false)]
    public async Task The_right_password_is_right_and_nothing_else(string name, string password, bool right) =>
        (await Checks(Users).CheckAsync(Header(name, password), Here, Ending)).ShouldBe(right ? PasswordOutcome.Right : PasswordOutcome.Wrong);

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("Basic")]
    [InlineData("Basic !!!")]
    [InlineData("Bearer cHJvbWV0aGV1czpvcGVuIHNlc2FtZQ==")]
    [InlineData("Basic cHJvbWV0aGV1cw==")]
    [InlineData("Basic /////w==")]
    public async Task What_is_no_name_with_a_password_is_wrong_and_costs_nothing(string? header)
    {
        PasswordChecks checks = Checks(Users);
        for (int i = 0; i < 100; i++)
        {
            (await checks.CheckAsync(header, Here, Ending)).ShouldBe(PasswordOutcome.Wrong);
        }
        _time.Waits.ShouldBeEmpty();
        (await checks.CheckAsync(Header("prometheus", "open sesame"), Here, Ending)).ShouldBe(PasswordOutcome.Right);
    }

    [Fact]
    public async Task An_address_that_was_wrong_has_to_wait_twice_as_long_each_time_and_a_minute_at_most()
    {
        PasswordChecks checks = Checks(Users);
        foreach (int seconds in (int[])[1, 2, 4, 8, 16, 32, 60, 60])
        {
            (await checks.CheckAsync(Header("prometheus", "guess"), Here, Ending)).ShouldBe(PasswordOutcome.Wrong);
            _time.Advance(TimeSpan.FromSeconds(seconds - 0.1));
            (await checks.CheckAsync(Header("prometheus", "open sesame"), Here, Ending)).ShouldBe(PasswordOutcome.NotTried);
            _time.Advance(TimeSpan.FromSeconds(0.2));
        }
        (await checks.CheckAsync(Header("prometheus", "open sesame"), Here, Ending)).ShouldBe(PasswordOutcome.Right);
        // And is forgiven.
        (await checks.CheckAsync(Header("prometheus", "guess"), Here, Ending)).ShouldBe(PasswordOutcome.Wrong);
        _time.Advance(TimeSpan.FromSeconds(1.1));
        (await checks.CheckAsync(Header("zoë", "Zürich ☃"), Here, Ending)).ShouldBe(PasswordOutcome.Right);
    }

    [Fact]
    public async Task Who_was_right_before_is_served_whoever_guesses()
    {
        PasswordChecks checks = Checks(Users);
        (await checks.CheckAsync(Header("prometheus", "open sesame"), Here, Ending)).ShouldBe(PasswordOutcome.Right);
        (await checks.CheckAsync(Header("prometheus", "guess"), Here, Ending)).ShouldBe(PasswordOutcome.Wrong);
        (await checks.CheckAsync(Header("prometheus", "guess"), Here, Ending)).ShouldBe(PasswordOutcome.NotTried);
        (await checks.CheckAsync(Header("prometheus", "open sesame"), Here, Ending)).ShouldBe(PasswordOutcome.Right);
    }

    [Fact]
    public async Task After_a_wrong_password_nothing_is_checked_for_nine_times_as_long_whoever_asks()
    {
        _time.EachLook = TimeSpan.FromMilliseconds(10);
        PasswordChecks checks = Checks(Users);
        for (int i = 0; i < 10; i++)
        {
            (await checks.CheckAsync(Header("prometheus", "guess"), IPAddress.Parse($"192.0.2.{i + 10}"), Ending)).ShouldBe(PasswordOutcome.Wrong);
        }
        // Each check takes a look at the clock at least; some of the wait goes by in looks, too.
        _time.Waits.Count.ShouldBe(9);
        _time.Waits.ShouldAllBe(static w => w > TimeSpan.FromMilliseconds(30));
    }

    [Fact]
    public async Task Of_a_thousand_guesses_at_once_few_are_tried()
    {
        using var checks = new PasswordChecks(Of(Users), TimeProvider.System);
        PasswordOutcome[] outcomes = await Task.WhenAll(Enumerable.Range(0, 1000).Select(i =>
            Task.Run(() => checks.CheckAsync(Header("prometheus", $"guess {i}"), new IPAddress([198, 51, (byte)(i >> 8), (byte)i]), Ending))));
        outcomes.ShouldNotContain(PasswordOutcome.Right);
        outcomes.Count(static o => o == PasswordOutcome.NotTried).ShouldBeGreaterThan(500);
    }

    [Fact]
    public async Task The_addresses_of_one_ipv6_network_are_one_and_many_are_not_remembered_for_ever()
    {
        PasswordChecks checks = Checks(Users);
        (await checks.CheckAsync(Header("x", "y"), IPAddress.Parse("2001:db8::1"), Ending)).ShouldBe(PasswordOutcome.Wrong);
        (await checks.CheckAsync(Header("x", "y"), IPAddress.Parse("2001:db8::ffff:1"), Ending)).ShouldBe(PasswordOutcome.NotTried);
        (await checks.CheckAsync(Header("x", "y"), IPAddress.Parse("2001:db8:0:1::1"), Ending)).ShouldBe(PasswordOutcome.Wrong);
        (await checks.CheckAsync(Header("x", "y"), IPAddress.Parse("::ffff:192.0.2.9"), Ending)).ShouldBe(PasswordOutcome.Wrong);
        (await checks.CheckAsync(Header("x", "y"), IPAddress.Parse("192.0.2.9"), Ending)).ShouldBe(PasswordOutcome.NotTried);
    }

    [Fact]
    public async Task Guesses_are_told_once_a_minute_with_their_number()
    {
        var told = new List<(int, IPAddress)>();
        PasswordChecks checks = Checks(Users);
        checks.Failures = (count, from) => told.Add((count, from));
        for (int i = 1; i <= 3; i++)
        {
            _ = await checks.CheckAsync(Header("prometheus", "guess"), IPAddress.Parse($"192.0.2.{i}"), Ending);
        }
        told.ShouldBe([(1, IPAddress.Parse("192.0.2.1"))]);
        _time.Advance(TimeSpan.FromMinutes(1));
        _ = await checks.CheckAsync(Header("prometheus", "guess"), IPAddress.Parse("192.0.2.4"), Ending);
        told[1..].ShouldBe([(3, IPAddress.Parse("192.0.2.4"))]);
    }

    [Theory]
    [InlineData("", "has 0 names")]
    [InlineData("# nobody\n", "has 0 names")]
    [InlineData("alice:secret\n", "line 1: NAME:HASH is expected")]
    [InlineData("# the first\nalice:$apr1$ZJ8b7Yv1$2b5dKcVOhbDRXnRNvVSFi1\n", "line 2: NAME:HASH is expected")]
    [InlineData("alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n", "'htpasswd -nB NAME' writes such a line")]
    [InlineData("$2y$04$KamOtelKamOtelKamOteluac.WhOvIx2RVlpYMr6csbkgW5JjHSPC\n", "NAME:HASH is expected")]
    [InlineData("a:$2y$04$KamOtelKamOtelKamOteluac.WhOvIx2RVlpYMr6csbkgW5JjHSPC \n", "NAME:HASH is expected")]
    [InlineData("a:$2y$15$KamOtelKamOtelKamOteluac.WhOvIx2RVlpYMr6csbkgW5JjHSPC\n", "a hash of cost 15 is not taken")]
    [InlineData("a:$2y$03$KamOtelKamOtelKamOteluac.WhOvIx2RVlpYMr6csbkgW5JjHSPC\n", "a hash of cost 3 is not taken")]
    [InlineData("a:$2y$04$KamOtelKamOtelKamOteluac.WhOvIx2RVlpYMr6csbkgW5JjHSPC\na:$2y$04$KamOtelKamOtelKamOteluac.WhOvIx2RVlpYMr6csbkgW5JjHSPC\n", "line 2: the name is there already")]
    public void A_line_that_is_none_is_told_by_its_number_and_never_shown(string text, string why)
    {
        UsageException e = Should.Throw<UsageException>(() => Passwords.Of(File, Encoding.UTF8.GetBytes(text)));
        e.Message.ShouldContain(why);
        e.Message.ShouldContain("/etc/kamotel/users (--basic-auth)");
        e.Message.ShouldNotContain("secret");
        e.Message.ShouldNotContain("alice");
    }

    private static Func<Passwords> Of(string text)
    {
        var passwords = Passwords.Of(File, Encoding.UTF8.GetBytes(text));
        return () => passwords;
    }

    private PasswordChecks Checks(string text) => new(Of(text), _time);

    private static string Header(string name, string password) => $"Basic {Convert.ToBase64String(Encoding.UTF8.GetBytes($"{name}:{password}"))}";
}
