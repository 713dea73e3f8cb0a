// Collects the codes of all errors that oserve can give: every text that a call in src/ passes to a parameter named
// `code`, and the `super('code', …)` of error classes. The compiler resolves the calls, so that helpers count as well.
//
//   node scripts/error-codes.mjs          prints them, one a line
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = fileURLToPath(new URL('../', import.meta.url));

/** @returns {Map<string, string[]>} code → files that use it, both sorted. */
export function collectErrorCodes() {
  const { config } = ts.readConfigFile(`${root}tsconfig.build.json`, ts.sys.readFile);
  const { fileNames, options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const program = ts.createProgram(fileNames, {
    ...options,
    noEmit: true,
    incremental: false,
    tsBuildInfoFile: undefined,
  });
  const checker = program.getTypeChecker();
  const codes = new Map();
  const literals = (type) => (type.isUnion() ? type.types : [type]).filter((part) => part.isStringLiteral());
  for (const source of program.getSourceFiles()) {
    if (source.isDeclarationFile || !source.fileName.startsWith(`${root}src/`)) continue;
    const visit = (node) => {
      if (ts.isCallExpression(node) || ts.isNewExpression(node)) {
        const parameters = checker.getResolvedSignature(node)?.parameters ?? [];
        parameters.forEach((parameter, index) => {
          const argument = node.arguments?.[index];
          if (parameter.name !== 'code' || !argument) return;
          for (const { value } of literals(checker.getTypeAtLocation(argument))) {
            if (!codes.has(value)) codes.set(value, new Set());
            codes.get(value).add(source.fileName.slice(root.length));
          }
        });
      }
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  return new Map([...codes].sort(([a], [b]) => (a < b ? -1 : 1)).map(([code, files]) => [code, [...files].sort()]));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const code of collectErrorCodes().keys()) console.log(code);
}
