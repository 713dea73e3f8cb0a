#!/usr/bin/env node
// Checks what must hold before any of our code can be loaded, in a syntax that old versions of Node can still read.
var wanted = [20, 19];
var found = process.versions.node.split('.').map(Number);
if (found[0] < wanted[0] || (found[0] === wanted[0] && found[1] < wanted[1])) {
  console.error(
    `oserve needs Node ${wanted.join('.')} or newer; this is Node ${process.versions.node}. Install a newer Node and try again.`,
  );
  process.exit(1);
}
import('../dist/cli/main.js').then(
  (cli) =>
    // A failed command ends at once, whatever it left open; a successful one ends when nothing is left to do.
    cli.main(process.argv.slice(2)).then((code) => {
      if (code !== 0) process.exit(code);
    }),
  (error) => {
    if (error && error.code === 'ERR_MODULE_NOT_FOUND' && String(error.message).indexOf('dist/cli/main.js') >= 0) {
      console.error('oserve is not built yet. Run `npm run build` first.');
    } else {
      console.error(error);
    }
    process.exit(1);
  },
);
