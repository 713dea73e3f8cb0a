// The command line. Each command is a module of commands/ that exports `register(program)`; here is only what all share:
// how errors look, which exit code they give, and where help, version and suggestions come from.
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { OserveError } from '../core/domain/index.ts';

interface CommandModule {
  register(program: Command): void;
}

/** In the order of the help text. Loaded on demand: a command starts without what only others need. */
const COMMANDS: Readonly<Record<string, () => Promise<CommandModule>>> = {
  up: () => import('./commands/up.ts'),
  simulate: () => import('./commands/simulate.ts'),
  plan: () => import('./commands/plan.ts'),
  'switch-plan': () => import('./commands/switch-plan.ts'),
  forecast: () => import('./commands/forecast.ts'),
  replay: () => import('./commands/replay.ts'),
  trace: () => import('./commands/trace.ts'),
  config: () => import('./commands/config.ts'),
  calibrate: () => import('./commands/calibrate.ts'),
};

function packageVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/**
 * The whole command tree.
 *
 * @param only - load this command alone (it starts faster); null loads all, for help and suggestions.
 */
export async function createProgram(only: string | null = null): Promise<Command> {
  const program = new Command('oserve')
    .description(
      'Serves large language models from one pool of GPUs: predicts traffic, plans replicas, switches, serves.',
    )
    .version(packageVersion())
    .option('--debug', 'print stack traces with errors')
    .showHelpAfterError('(add --help for usage and an example)')
    .addHelpText('after', '\nExample:\n  $ oserve simulate --trace trace.csv.gz --model llama2-70b --gpus 16')
    .exitOverride();
  const names = only !== null && Object.hasOwn(COMMANDS, only) ? [only] : Object.keys(COMMANDS);
  for (const name of names) (await COMMANDS[name]!()).register(program);
  return program;
}

/** Prints an error the way every command does: message, then hint; the stack only with --debug. */
export function reportError(error: unknown, debug: boolean, write: (text: string) => void): void {
  if (error instanceof OserveError) {
    write(`error: ${error.message}\n`);
    if (error.hint) write(`hint: ${error.hint}\n`);
  } else {
    const message = error instanceof Error ? error.message : String(error);
    write(`error: ${message}\n`);
    write('hint: This is a bug in oserve. Please report it with the command you ran; --debug adds a stack trace.\n');
  }
  if (debug && error instanceof Error) {
    write(`${error.stack}\n`);
    if (error.cause !== undefined) write(`caused by: ${String((error.cause as Error).stack ?? error.cause)}\n`);
  }
}

/**
 * Runs one command line.
 *
 * @param argv - arguments after the program's name.
 * @returns the exit code: 0 only on success.
 */
export async function main(argv: readonly string[]): Promise<number> {
  surviveClosedPipes();
  try {
    if (argv[0] === '--version' || argv[0] === '-V') {
      process.stdout.write(`${packageVersion()}\n`);
      return 0;
    }
    const only = argv.find((argument) => !argument.startsWith('-')) ?? null;
    const program = await createProgram(argv[0] === 'help' ? null : only);
    await program.parseAsync(argv, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    // commander has printed its own message; help and version are a success.
    if (error instanceof CommanderError) return error.exitCode;
    reportError(error, argv.includes('--debug'), (text) => process.stderr.write(text));
    return 1;
  }
}

let pipesAreWatched = false;

/** A reader that went away (`| head`) is no error: stop quietly, and let stderr fail in silence. */
function surviveClosedPipes(): void {
  if (pipesAreWatched) return;
  pipesAreWatched = true;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  process.stderr.on('error', () => {});
}
