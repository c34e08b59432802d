KamOtel.Agent.StandardStreams.Secure();
return await KamOtel.Agent.CommandLine.RunAsync(args, Console.Out, Console.Error);
