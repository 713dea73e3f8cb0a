// The committed profiles: data/profiles/*.json, made by `oserve calibrate`.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ConfigError } from '../../core/domain/index.ts';
import type { Profile } from '../../core/replica/index.ts';

/** data/profiles of the package, seen from src/host/profiles and from dist/host/profiles alike. */
export const PROFILE_DIRECTORY = fileURLToPath(new URL('../../../data/profiles/', import.meta.url));

const fileNameOf = (gpuKind: string): string => `${gpuKind.toLowerCase()}.json`;

/** All profiles, by GPU kind in alphabetical order. */
export function loadProfiles(directory = PROFILE_DIRECTORY): Profile[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => readProfile(join(directory, name)));
}

/** @throws {@link ConfigError} when this kind of GPU was never calibrated. */
export function loadProfile(gpuKind: string, directory = PROFILE_DIRECTORY): Profile {
  const profiles = loadProfiles(directory);
  const profile = profiles.find((candidate) => candidate.gpuKind === gpuKind);
  if (profile === undefined) {
    throw new ConfigError(`There is no profile of ${gpuKind} in ${directory}.`, {
      hint: `Profiles are there for ${profiles.map((p) => p.gpuKind).join(', ')}; make one with oserve calibrate.`,
    });
  }
  return profile;
}

function readProfile(file: string): Profile {
  let profile: Partial<Profile>;
  try {
    profile = JSON.parse(readFileSync(file, 'utf8')) as Partial<Profile>;
  } catch (cause) {
    throw new ConfigError(`${file} is not a profile: ${(cause as Error).message}.`, {
      hint: 'Make it again with oserve calibrate.',
      cause,
    });
  }
  if (profile.gpuKind === undefined || profile.coefficients?.gemm === undefined) {
    throw new ConfigError(`${file} is not a profile: it has no gpuKind or no coefficients.`, {
      hint: 'Make it again with oserve calibrate.',
    });
  }
  return profile as Profile;
}

/** Writes a profile with six significant digits a number, so that equal fits give equal files. @returns the path. */
export function writeProfile(profile: Profile, directory = PROFILE_DIRECTORY): string {
  const file = join(directory, fileNameOf(profile.gpuKind));
  const rounded = JSON.stringify(
    profile,
    (_, value: unknown) => (typeof value === 'number' ? Number(value.toPrecision(6)) : value),
    2,
  );
  writeFileSync(file, `${rounded}\n`);
  return file;
}
