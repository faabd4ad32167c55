process.stdout.write("purser\n");
