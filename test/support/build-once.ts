// Before the first e2e test: compiles, since these tests start the built program as a user would.
import { execFileSync } from 'node:child_process';

export function setup(): void {
  // While several people work in one tree, somebody else's half-written file must not stop one's own test.
  if (process.env.OSERVE_TEST_WITHOUT_BUILD === '1') return;
  execFileSync('npm', ['run', '--silent', 'build'], { stdio: 'inherit' });
}
