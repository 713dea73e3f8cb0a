// Logs go to stderr, one line per event: for people by default, as JSON with OSERVE_LOG_FORMAT=json. Secrets and the
// text of prompts never reach a line, whoever logs the object that holds them.
import pino from 'pino';
import { formatLine } from './human-line.ts';

export type Logger = pino.Logger;
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
export type LogFormat = 'human' | 'json';

export interface LoggerOptions {
  /** Which part speaks: `gateway`, `controller`, `agent-0`. */
  readonly name: string;
  readonly level?: LogLevel;
  readonly format?: LogFormat;
  /** Where finished lines go, newline included; stderr by default. */
  readonly write?: (line: string) => void;
}

const LEVELS: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

const SECRETS = ['token', 'apiKey', 'authorization', 'password', 'secret'];
const TEXTS = ['prompt', 'messages', 'body'];
/** pino's `*` stands for exactly one level, so that each depth is a path of its own. */
const REDACTED = [...SECRETS, ...TEXTS].flatMap((key) => [key, `*.${key}`, `*.*.${key}`]);

/** Level from OSERVE_LOG_LEVEL or LOG_LEVEL; a word that is no level counts as `info`. */
function levelFromEnvironment(): LogLevel {
  const word = process.env.OSERVE_LOG_LEVEL ?? process.env.LOG_LEVEL;
  return LEVELS.find((level) => level === word) ?? 'info';
}

const writeToStderr = (line: string): void => {
  process.stderr.write(line);
};

/** A logger with the same methods as pino's: `log.info({ replica, seconds }, 'replica admitted')`. */
export function createLogger(options: LoggerOptions): Logger {
  const write = options.write ?? writeToStderr;
  const format = options.format ?? (process.env.OSERVE_LOG_FORMAT === 'json' ? 'json' : 'human');
  const destination = { write: format === 'json' ? write : (line: string) => write(formatLine(line)) };
  return pino(
    {
      name: options.name,
      level: options.level ?? levelFromEnvironment(),
      base: {},
      redact: { paths: REDACTED, censor: '[redacted]' },
      serializers: { error: pino.stdSerializers.err, err: pino.stdSerializers.err },
    },
    destination,
  );
}
