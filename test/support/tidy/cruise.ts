// Runs dependency-cruiser with the house's rules over the real tree, or over a small tree made of wrong files.
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { root } from './files.ts';

export interface CruiseResult {
  /** Files under src/ that were looked at. */
  readonly modules: readonly string[];
  readonly violations: readonly { readonly rule: string; readonly from: string; readonly to: string }[];
}

interface CruiseReport {
  readonly modules: readonly { readonly source: string }[];
  readonly summary: {
    readonly violations: readonly {
      readonly rule: { readonly name: string };
      readonly from: string;
      readonly to: string;
    }[];
  };
}

/** Cruises `src` of a folder that holds the rules and a tsconfig. */
export async function cruise(folder: string = root): Promise<CruiseResult> {
  const program = join(root, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs');
  const config = join(folder, '.dependency-cruiser.cjs');
  const output = await new Promise<string>((resolve, reject) => {
    const options = { cwd: folder, maxBuffer: 256 * 1024 * 1024 };
    execFile(
      process.execPath,
      [program, 'src', '--config', config, '--output-type', 'json'],
      options,
      // Violations give a non-zero exit code; only a missing report is a failure of the run itself.
      (error, stdout, stderr) => (stdout.startsWith('{') ? resolve(stdout) : reject(error ?? new Error(stderr))),
    );
  });
  const report = JSON.parse(output) as CruiseReport;
  return {
    modules: report.modules.map(({ source }) => source).filter((source) => source.startsWith('src/')),
    violations: report.summary.violations.map(({ rule, from, to }) => ({ rule: rule.name, from, to })),
  };
}

/** Cruises a tree of the given files (path → text) under the house's rules. */
export async function cruiseFiles(files: Readonly<Record<string, string>>): Promise<CruiseResult> {
  const folder = mkdtempSync(join(tmpdir(), 'oserve-cruise-'));
  try {
    for (const name of ['.dependency-cruiser.cjs', 'tsconfig.json', 'package.json'])
      cpSync(root + name, join(folder, name));
    symlinkSync(`${root}node_modules`, join(folder, 'node_modules'));
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
    return await cruise(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
