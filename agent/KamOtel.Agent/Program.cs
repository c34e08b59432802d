KamOtel.Agent.StandardStreams.Secure();
KamOtel.Agent.LeastPrivilege.OwnsProcess = true;
return await KamOtel.Agent.CommandLine.RunAsync(args, KamOtel.Agent.StandardStreams.Output, KamOtel.Agent.StandardStreams.Error);
