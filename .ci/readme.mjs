// The commands of README.md, exactly as written there: the first two lines of shell code blocks that begin with
// `npm install`, and the first `curl`.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** @returns {{ start: string, test: string, curl: string }} */
export function readmeCommands(folder) {
  const text = readFileSync(join(folder, 'README.md'), 'utf8');
  // Fences come in pairs: every second part lies inside one, its first line naming the language.
  const blocks = text
    .split(/^```/m)
    .filter((_, index) => index % 2 === 1)
    .filter((block) => /^(sh|bash|console|shell)\n/.test(block))
    .map((block) => block.slice(block.indexOf('\n') + 1));
  const lines = blocks
    .flatMap((block) => block.split('\n'))
    .map((line) =>
      line
        .replace(/^\$ /, '')
        .replace(/\s+#.*$/, '')
        .trim(),
    );
  const [start, test] = lines.filter((line) => line.startsWith('npm install'));
  if (!start?.includes('npm start') || !test?.includes('npm test')) {
    throw new Error(
      `README.md must name "npm install && npm start" first and "npm install && npm test" second; found: ${start}, ${test}`,
    );
  }
  const curl = blocks.find((block) => block.startsWith('curl '));
  if (!curl) throw new Error('README.md must have a code block with a curl command.');
  return { start, test, curl };
}
