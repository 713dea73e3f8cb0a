// `oserve up`: a whole pool on this machine, in the foreground.
import { type Command, InvalidArgumentError } from 'commander';
import { flagOverrides, loadConfig } from '../../host/index.ts';
import { runPool } from '../pool/run-pool.ts';

interface UpFlags {
  readonly config?: string;
  readonly traffic?: string;
  readonly speed?: number;
  readonly port?: number;
}

function readNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) throw new InvalidArgumentError(`"${text}" is not a number.`);
  return value;
}

export function register(program: Command): void {
  program
    .command('up')
    .description('Starts an emulated pool with an OpenAI-compatible server in front; Ctrl-C ends it.')
    .option('--config <file>', 'YAML file (default: OSERVE_CONFIG, else built-in defaults)')
    .option('--traffic <source>', 'who sends requests: none, generated, or a trace file')
    .option('--speed <factor>', 'emulated seconds per real second', readNumber)
    .option('--port <port>', 'port for clients; 0 takes a free one', readNumber)
    .addHelpText('after', '\nExample:\n  $ oserve up --config examples/quickstart.yaml --speed 4')
    .action(async (flags: UpFlags) => {
      const loaded = loadConfig({
        file: flags.config ?? process.env.OSERVE_CONFIG,
        flags: flagOverrides({ traffic: flags.traffic, speed: flags.speed, port: flags.port }),
      });
      for (const warning of loaded.warnings) process.stderr.write(`warning: ${warning}\n`);
      process.exitCode = await runPool(loaded, (text) => process.stdout.write(text));
    });
}
