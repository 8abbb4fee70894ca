/** What a source file imports, and what it names, as TypeScript's own scanner sees it. */
import { posix } from "node:path";
import ts from "typescript";

/** Specifiers of all static and dynamic imports and re-exports. */
export function importsOf(source: string): string[] {
  return ts.preProcessFile(source, true, true).importedFiles.map(({ fileName }) => fileName);
}

/** The imported file, relative to the root, for `./` and `../`; null for a package. */
export function resolve(from: string, specifier: string): string | null {
  if (!specifier.startsWith(".")) return null;
  return posix.join(posix.dirname(from), specifier);
}

/** Names of a runtime in the code of a source file. Comments may speak of it. */
export function runtimeNames(source: string): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node) && /^(Bun|Deno)$/.test(node.text)) found.push(node.text);
    if (ts.isStringLiteralLike(node) && /^(Bun|Deno)$|^bun:/.test(node.text)) found.push(node.text);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile("file.ts", source, ts.ScriptTarget.Latest));
  return found;
}
