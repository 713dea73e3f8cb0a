import { expect, test } from 'vitest';
import { ConfigError } from '../../core/domain/index.ts';
import { formatLine } from './human-line.ts';
import { createLogger, type LoggerOptions } from './logger.ts';

function capture(options: Partial<LoggerOptions> = {}) {
  const lines: string[] = [];
  const log = createLogger({ name: 'gateway', level: 'info', write: (line) => lines.push(line), ...options });
  return { log, lines };
}

test('a line for people has time, level, part, message and fields, and ends with one newline', () => {
  const { log, lines } = capture({ format: 'human' });
  log.warn({ replica: 'r3', seconds: 1.23456789, why: 'two words' }, 'replica lost');
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(
    /^\d\d:\d\d:\d\d\.\d{3} warn {2}gateway {4}replica lost {2}replica=r3 seconds=1\.235 why="two words"\n$/,
  );
});

test('secrets and the text of prompts reach no line, in either format and at any usual depth', () => {
  for (const format of ['human', 'json'] as const) {
    const { log, lines } = capture({ format });
    const request = { headers: { authorization: 'Bearer s3cret' }, body: 's3cret', prompt: ['s3cret'] };
    log.info(
      { token: 's3cret', request, options: { apiKey: 's3cret', token: 's3cret' }, messages: 's3cret' },
      'request',
    );
    expect(lines.join('')).toContain('request');
    expect(lines.join('')).not.toContain('s3cret');
  }
});

test('errors are shown with code and hint, without a stack', () => {
  const { log, lines } = capture({ format: 'human' });
  log.error({ error: new ConfigError('no such port', { hint: 'Use another.' }) }, 'cannot start');
  expect(lines[0]).toContain('cannot start error="no such port" code=config_invalid hint="Use another."');
  expect(lines[0]!.trimEnd()).not.toContain('\n');
});

test('levels below the chosen one are not written', () => {
  const { log, lines } = capture({ level: 'error' });
  log.info('quiet');
  log.error('loud');
  expect(lines).toHaveLength(1);
});

test('JSON lines stay JSON, and what is no record passes through', () => {
  const { log, lines } = capture({ format: 'json' });
  log.info({ replica: 'r1' }, 'admitted');
  expect(JSON.parse(lines[0]!)).toMatchObject({ name: 'gateway', msg: 'admitted', replica: 'r1', level: 30 });
  expect(formatLine('plain text\n')).toBe('plain text\n');
});
