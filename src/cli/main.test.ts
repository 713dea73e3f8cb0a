import { expect, test, vi } from 'vitest';
import { ConfigError } from '../core/domain/index.ts';
import { createProgram, main, reportError } from './main.ts';

/** Runs a command line and returns what it printed and its exit code. */
async function run(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  let [stdout, stderr] = ['', ''];
  const out = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    stdout += text;
    return true;
  });
  const err = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += text;
    return true;
  });
  try {
    return { code: await main(argv), stdout, stderr };
  } finally {
    out.mockRestore();
    err.mockRestore();
  }
}

test('--help and --version are a success', async () => {
  expect(await run('--version')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  const help = await run('--help');
  expect(help.code).toBe(0);
  expect(help.stdout).toMatch(/Usage: oserve[\s\S]*config[\s\S]*Example:/);
});

test('every command, down to the last, has a help text with an example', async () => {
  const program = await createProgram();
  const visit = async (commands: readonly (typeof program)[], parents: string[]): Promise<void> => {
    for (const command of commands) {
      const path = [...parents, command.name()];
      const { code, stdout } = await run(...path, '--help');
      expect(code, path.join(' ')).toBe(0);
      expect(stdout, path.join(' ')).toMatch(/Examples?:\n\s+\S/);
      expect(command.description(), path.join(' ')).not.toBe('');
      await visit(command.commands, path);
    }
  };
  expect(program.commands.length).toBeGreaterThan(0);
  await visit(program.commands, []);
});

test('a misspelt command or option fails with a suggestion', async () => {
  const command = await run('confg');
  expect(command.code).toBe(1);
  expect(command.stderr).toMatch(/error: unknown command 'confg'\n\(Did you mean config\?\)/);
  const option = await run('config', 'print', '--jsn');
  expect(option.code).toBe(1);
  expect(option.stderr).toMatch(/error: unknown option '--jsn'\n\(Did you mean --json\?\)/);
});

test('what the world did wrong is printed as message and hint, without a stack, and exits with 1', async () => {
  const { code, stdout, stderr } = await run('config', 'validate', 'does-not-exist.yaml');
  expect(code).toBe(1);
  expect(stdout).toBe('');
  expect(stderr).toMatch(/^error: Cannot read the configuration does-not-exist\.yaml: .*\nhint: .*\n$/);
  expect((await run('config', 'validate', 'does-not-exist.yaml', '--debug')).stderr).toMatch(/\n\s+at /);
});

test('an error that is not ours says that it is a bug', () => {
  let text = '';
  const write = (part: string) => {
    text += part;
  };
  reportError(new TypeError('x is undefined'), false, write);
  expect(text).toMatch(/^error: x is undefined\nhint: This is a bug in oserve\./);
  text = '';
  reportError(new ConfigError('bad', { cause: new Error('deeper') }), true, write);
  expect(text).toMatch(/caused by: Error: deeper/);
});
