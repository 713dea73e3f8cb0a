// Finds what the core must not touch: clocks, dice, timers, the process, the network. The linter's list of globals sees
// plain names only; this also sees `Math.random`, `globalThis.x`, dynamic imports and `import.meta`.
import ts from 'typescript';

const FORBIDDEN_GLOBALS = new Set([
  'Date',
  'performance',
  'process',
  'console',
  'setTimeout',
  'setInterval',
  'setImmediate',
  'queueMicrotask',
  'fetch',
  'crypto',
  'Buffer',
  'globalThis',
  'require',
  'navigator',
  'Worker',
  'WebSocket',
]);

/** A name that stands for itself, not one behind a dot or in front of a colon. */
function isFreeName(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isQualifiedName(parent)) return parent.left === node;
  if (ts.isPropertyAssignment(parent) || ts.isPropertyDeclaration(parent) || ts.isPropertySignature(parent)) {
    return parent.name !== node;
  }
  return !(ts.isMethodDeclaration(parent) || ts.isMethodSignature(parent) || ts.isBindingElement(parent));
}

/** What a file of the core does wrong, as `line: what`; empty when it is pure. */
export function impurities(path: string, text: string): string[] {
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true);
  const found: string[] = [];
  const report = (node: ts.Node, what: string) => {
    const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
    found.push(`${line + 1}: ${what}`);
  };
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node) && FORBIDDEN_GLOBALS.has(node.text) && isFreeName(node)) report(node, node.text);
    if (ts.isPropertyAccessExpression(node) && node.getText(source) === 'Math.random') report(node, 'Math.random');
    if (ts.isElementAccessExpression(node) && node.expression.getText(source) === 'Math') report(node, 'Math[…]');
    if (ts.isMetaProperty(node) && node.keywordToken === ts.SyntaxKind.ImportKeyword) report(node, 'import.meta');
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) report(node, 'import()');
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}
