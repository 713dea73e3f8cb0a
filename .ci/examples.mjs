// Runs every example: the commands that stand in its opening comment as `#   $ command`, verbatim, one after the other.
// The quick start has a stage of its own; here its file is only validated. One count per example.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

spawnSync('npm', ['run', '--silent', 'build'], { stdio: 'inherit' });
let [passed, failed] = [0, 0];
for (const name of readdirSync('examples')
  .filter((file) => file.endsWith('.yaml'))
  .sort()) {
  const file = `examples/${name}`;
  const commands = [...readFileSync(file, 'utf8').matchAll(/^# {1,4}\$ (.*)$/gm)].map((match) => match[1]);
  const runs = [`npx oserve config validate ${file}`, ...(name === 'quickstart.yaml' ? [] : commands)];
  let good = name === 'quickstart.yaml' || commands.length > 0;
  if (!good) console.log(`${file} has no command in its opening comment`);
  for (const command of runs) {
    console.log(`$ ${command}`);
    const { status } = spawnSync('bash', ['-c', command], { stdio: 'inherit', timeout: 300_000 });
    if (status !== 0) good = false;
  }
  console.log(`${good ? 'ok' : 'FAILED'}: ${file}`);
  if (good) passed += 1;
  else failed += 1;
}
writeFileSync(process.env.COUNTS, `${passed} ${failed} 0`);
process.exit(failed === 0 ? 0 : 1);
