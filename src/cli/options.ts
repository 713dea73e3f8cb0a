// Checks of flags that several commands share.
import { ConfigError } from '../core/domain/index.ts';

/** @throws {@link ConfigError} naming the flag and what was expected. */
export function numberFlag(flag: string, text: string | undefined, least: number, whole = false): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < least || (whole && !Number.isInteger(value))) {
    throw new ConfigError(`${flag} is "${text}"; expected a ${whole ? 'whole ' : ''}number of at least ${least}.`);
  }
  return value;
}

/** @throws {@link ConfigError} listing the choices. */
export function choiceFlag<T extends string>(flag: string, text: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) throw new ConfigError(`${flag} is "${text}"; expected one of ${choices.join(', ')}.`);
  return found;
}
