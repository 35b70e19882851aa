import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import ts from 'typescript';
import { everyNode, projectFolder, type SourceFile, sourceFiles } from './source-tree.js';

const files = sourceFiles('core', 'plugins', 'test', 'demo').filter(({ path }) => !path.includes('/types/'));
const maximumFile = 300;
const maximumFunction = 40;
const maximumFolder = 15;

/** In a suite, the callback handed to t.test is a list of steps, not a function somebody has to understand whole. */
function isStepList(file: SourceFile, node: ts.Node): boolean {
  return file.path.endsWith('.test.ts') && ts.isArrowFunction(node) && ts.isCallExpression(node.parent);
}

function longFunctions(file: SourceFile): string[] {
  const found: string[] = [];
  everyNode(file.tree, (node) => {
    if (!ts.isFunctionLike(node) || isStepList(file, node)) return;
    const first = file.tree.getLineAndCharacterOfPosition(node.getStart()).line;
    const last = file.tree.getLineAndCharacterOfPosition(node.getEnd()).line;
    if (last - first + 1 > maximumFunction) found.push(`line ${first + 1}: ${last - first + 1} lines`);
  });
  return found;
}

function looseTypes(file: SourceFile): string[] {
  const found: string[] = [];
  everyNode(file.tree, (node) => {
    const line = file.tree.getLineAndCharacterOfPosition(node.getStart()).line + 1;
    if (node.kind === ts.SyntaxKind.AnyKeyword) found.push(`line ${line}: any`);
    if (ts.isAsExpression(node) && node.type.getText() !== 'const') found.push(`line ${line}: ${node.getText().slice(0, 60)}`);
    if (ts.isTypeAssertionExpression(node)) found.push(`line ${line}: ${node.getText().slice(0, 60)}`);
  });
  return [...found, ...(/@ts-(ignore|nocheck)/.test(file.text) && !file.path.includes('architecture') ? ['a silenced compiler'] : [])];
}

t.test(`no file is longer than ${maximumFile} lines`, async (t) => {
  for (const file of files) t.ok(file.lines <= maximumFile, `${file.path}: ${file.lines}`);
});

t.test(`no function is longer than ${maximumFunction} lines`, async (t) => {
  for (const file of files) t.same(longFunctions(file), [], file.path);
});

t.test('no any, no cast', async (t) => {
  for (const file of files) t.same(looseTypes(file), [], file.path);
});

t.test(`no folder has more than ${maximumFolder} files of its own`, async (t) => {
  for (const top of ['core', 'plugins', 'schemas', 'firmware', 'test', 'demo', 'scripts', 'docs']) {
    const entries = readdirSync(join(projectFolder, top), { recursive: true, withFileTypes: true });
    const counts = new Map<string, number>();
    for (const entry of entries.filter((one) => !one.isDirectory())) counts.set(entry.parentPath, (counts.get(entry.parentPath) ?? 0) + 1);
    for (const [folder, count] of counts) t.ok(count <= maximumFolder, `${folder}: ${count}; split it by what its files do`);
  }
});
