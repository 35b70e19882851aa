import t from 'tap';
import ts from 'typescript';
import { everyNode, type SourceFile, sourceFiles } from './source-tree.js';

const files = sourceFiles('core', 'plugins', 'test', 'demo').filter(({ path }) => !path.includes('/types/'));

/** Words that once meant several things, and what is said instead (docs/contributing.md, "One word, one meaning"). */
const instead: Readonly<Record<string, string>> = {
  desk: 'say what it does: registry, client, service',
  patience: 'a time limit, or RetryOptions',
  slot: 'a semaphore, or an ActiveRun',
  turn: 'a mutex, or a round',
  world: 'deps: what a function is given',
};
/** The slots of RAUC are the two system partitions; its own interface says so. */
const ofRauc = /^(core\/update|test\/(update|firmware))\/|rauc-bed|lifecycle\/update/;

/** `#isTurnTaken` → is, turn, taken. */
const wordsOf = (name: string): string[] =>
  name
    .replace(/^#/, '')
    .split(/_|(?=[A-Z])/)
    .map((word) => word.toLowerCase().replace(/s$/, ''));

function bannedNames(file: SourceFile): string[] {
  const found = new Set<string>();
  everyNode(file.tree, (node) => {
    if (!ts.isIdentifier(node) && !ts.isPrivateIdentifier(node)) return;
    const word = wordsOf(node.text).find((one) => Object.hasOwn(instead, one));
    if (word !== undefined) found.add(`${node.text}: ${instead[word]}`);
  });
  return [...found];
}

/** Participles of verbs that say nothing by themselves: a function that shows something is called show. */
const participle = /^#?(asked|checked|done|edited|found|given|held|judged|listed|opened|parsed|retried|shown|stopped|told|undone|wanted)$/;

function nameOfFunction(node: ts.Node): string | undefined {
  if ((ts.isFunctionDeclaration(node) || ts.isMethodDeclaration(node)) && node.name) return node.name.getText();
  const isConstant = ts.isVariableDeclaration(node) && node.initializer !== undefined && ts.isArrowFunction(node.initializer);
  return isConstant ? node.name.getText() : undefined;
}

function participles(file: SourceFile): string[] {
  const found: string[] = [];
  everyNode(file.tree, (node) => {
    const name = nameOfFunction(node);
    if (name !== undefined && participle.test(name)) found.push(name);
  });
  return found;
}

t.test('a word that means several things names nothing', async (t) => {
  for (const file of files.filter(({ path }) => !ofRauc.test(path) && !path.endsWith('architecture/words.test.ts')))
    t.same(bannedNames(file), [], file.path);
});

t.test('a function is named by a verb, not by a bare participle', async (t) => {
  for (const file of files.filter(({ path }) => /^(core|plugins)\//.test(path))) t.same(participles(file), [], file.path);
});
