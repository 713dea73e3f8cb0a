// Makes the pages under docs/reference that follow from the code. CI runs it and fails when a file changes.
//
//   npm run generate
import { readFileSync, writeFileSync } from 'node:fs';
import { parse } from 'yaml';
import { configJsonSchema, renderConfigReference } from '../dist/host/index.js';
import { collectErrorCodes } from './error-codes.mjs';

const reference = (name) => new URL(`../docs/reference/${name}`, import.meta.url);

/** The page of error codes; throws when the descriptions and the code do not list the same ones. */
function renderErrors() {
  const described = parse(readFileSync(reference('error-codes.yaml'), 'utf8'));
  const used = collectErrorCodes();
  const missing = [...used.keys()].filter((code) => !described[code]);
  const unused = Object.keys(described).filter((code) => !used.has(code));
  if (missing.length > 0 || unused.length > 0) {
    throw new Error(
      `docs/reference/error-codes.yaml: not described: ${missing.join(', ') || 'none'}; not used: ${unused.join(', ') || 'none'}`,
    );
  }
  const rows = [...used].map(([code, files]) => {
    const { meaning, next } = described[code];
    return `| \`${code}\` | ${meaning} | ${next} | ${files.map((file) => `\`${file}\``).join(', ')} |`;
  });
  return `# Error codes

<!-- Made by \`npm run generate\` from docs/reference/error-codes.yaml and src/; edit those instead. -->

Codes are stable: scripts may rely on them. The command line prints the message and a hint and exits with 1; the
gateway answers with \`{"error": {"message", "type", "param", "code"}}\`, in the middle of a stream too.

| code | meaning | what to do | given by |
|---|---|---|---|
${rows.join('\n')}
`;
}

const pages = {
  'config.md': renderConfigReference(),
  'config.schema.json': `${JSON.stringify(configJsonSchema(), null, 2)}\n`,
  'errors.md': renderErrors(),
};
for (const [name, text] of Object.entries(pages)) {
  writeFileSync(reference(name), text);
  console.log(`docs/reference/${name}`);
}
