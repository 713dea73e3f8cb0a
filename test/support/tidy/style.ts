// What a scan of the syntax can see of the style guide: one finding per line, as `line: what`.
import ts from 'typescript';

const isRelative = (specifier: string): boolean => specifier.startsWith('./') || specifier.startsWith('../');

/** @param path - decides which rules hold: unit tests must not sleep nor look at the clock. */
export function styleProblems(path: string, text: string): string[] {
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true);
  const unitTest = path.startsWith('src/') && path.endsWith('.test.ts');
  const found: string[] = [];
  const report = (position: number, what: string) => {
    found.push(`${source.getLineAndCharacterOfPosition(position).line + 1}: ${what}`);
  };
  for (const match of text.matchAll(/@ts-(ignore|nocheck)/g)) report(match.index, 'switches the compiler off');
  const visit = (node: ts.Node): void => {
    const start = node.getStart(source);
    if (ts.isExportAssignment(node)) report(start, 'default export');
    if (ts.isEnumDeclaration(node)) report(start, 'enum: use a union of texts');
    if (node.kind === ts.SyntaxKind.AnyKeyword) report(start, 'any');
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier) {
      const specifier = (node.moduleSpecifier as ts.StringLiteral).text;
      if (isRelative(specifier) && !/\.(ts|json)$/.test(specifier)) report(start, `import of ${specifier} without .ts`);
    }
    if (ts.isCatchClause(node) && node.block.statements.length === 0 && !/\/[/*]/.test(node.block.getText(source))) {
      report(start, 'an error is caught and dropped without a word why');
    }
    if (unitTest && ts.isCallExpression(node)) {
      const called = node.expression.getText(source);
      if (called === 'setTimeout' || called === 'sleep') report(start, 'a unit test sleeps');
      if (called === 'performance.now') report(start, 'a unit test looks at the clock');
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}
