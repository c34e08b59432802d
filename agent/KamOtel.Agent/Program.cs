KamOtel.Agent.StandardStreams.Secure();
return await KamOtel.Agent.CommandLine.RunAsync(args, KamOtel.Agent.StandardStreams.Output, KamOtel.Agent.StandardStreams.Error);
