// What leaves the process about itself: logs on stderr.
export { createLogger, type LogFormat, type Logger, type LoggerOptions, type LogLevel } from './logger.ts';
