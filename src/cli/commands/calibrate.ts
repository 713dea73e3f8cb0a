// `oserve calibrate`: fits the step-time profiles from measurements, or shows how far the profiles are from measured serving.
import type { Command } from 'commander';
import { gpuKind } from '../../core/domain/index.ts';
import {
  calibrate,
  closedLoops,
  KERNEL_TABLE_GPUS,
  loadProfiles,
  offlineRuns,
  referenceRuns,
  referenceThroughputs,
  staticBatches,
  writeProfile,
} from '../../host/index.ts';
import {
  compare,
  comparisonTable,
  crossoverTable,
  fitTable,
  referenceTable,
  referenceThroughputTable,
} from '../calibration-report.ts';

export function register(program: Command): void {
  program
    .command('calibrate')
    .description('fit the step-time profiles in data/profiles from measurements (OSERVE_DATA)')
    .option('--gpu <kinds>', 'kinds of GPU, separated by commas', KERNEL_TABLE_GPUS.join(','))
    .option('--compare', 'fit nothing: compare the profiles with measured serving and with another simulator')
    .option('--dry-run', 'print the fit, write no file')
    .addHelpText('after', '\nExample:\n  $ oserve calibrate --gpu H100-80GB --dry-run')
    .action((options: { gpu: string; compare?: boolean; dryRun?: boolean }) => {
      const kinds = options.gpu.split(',').map((name) => gpuKind(name.trim()).name);
      if (options.compare) {
        const profiles = loadProfiles().filter((profile) => kinds.includes(profile.gpuKind));
        const loops = [...closedLoops(), ...staticBatches(), ...offlineRuns()];
        process.stdout.write(`${comparisonTable(compare(profiles, loops))}\n`);
        process.stdout.write(`${referenceTable(profiles, referenceRuns())}\n`);
        process.stdout.write(`${referenceThroughputTable(profiles, referenceThroughputs())}\n`);
        process.stdout.write(crossoverTable(profiles));
        return;
      }
      for (const profile of calibrate(kinds)) {
        const where = options.dryRun ? 'not written' : writeProfile(profile);
        process.stdout.write(`${profile.name}: ${where}\n\n${fitTable(profile.fits)}\n`);
      }
    });
}
