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
/** Words with one meaning, in the rooms that have to do with another thing. */
const insteadIn: readonly { readonly room: RegExp; readonly words: Readonly<Record<string, string>> }[] = [
  {
    room: /^(plugins\/(targets|shared\/(ssh|primitives))|test\/(targets|conformance\/target|support\/servers))\//,
    words: {
      draft: 'an upload: a draft is a container in the making',
      link: 'a connection: a link is a symbolic or hard one',
      place: 'a location, a folder or an address: a place is where a source of a container lies',
      session: 'a connection, or a channel: a session is a login at the API',
    },
  },
  {
    room: /^core\/targets\//,
    words: {
      draft: 'an upload: a draft is a container in the making',
      link: 'a connection: a link is a symbolic or hard one',
      session: 'a connection: a session is a login at the API',
    },
  },
  { room: /^core\/store\//, words: { record: 'a row: a record is what a target holds of one job' } },
];
/** The slots of RAUC are the two system partitions; its own interface says so. */
const ofRauc = /^(core\/update|test\/(update|firmware))\/|rauc-bed|lifecycle\/update/;

/** `#isTurnTaken` → is, turn, taken. */
const wordsOf = (name: string): string[] =>
  name
    .replace(/^#/, '')
    .split(/_|(?=[A-Z])/)
    .map((word) => word.toLowerCase().replace(/s$/, ''));

/** Keys of files that earlier versions wrote. */
const onDisk: ReadonlySet<string> = new Set(['plugins/targets/rsync/leftovers.ts: place']);

/** Names that a file takes over from Node (`link`, `symlink`) or TypeScript (`Record`). */
function foreignNames({ tree }: SourceFile): ReadonlySet<string> {
  const found = new Set(['Record']);
  everyNode(tree, (node) => {
    if (!ts.isImportDeclaration(node) || !ts.isStringLiteral(node.moduleSpecifier) || !node.moduleSpecifier.text.startsWith('node:'))
      return;
    everyNode(node, (name) => ts.isIdentifier(name) && found.add(name.text));
  });
  return found;
}

function misplacedNames(file: SourceFile): string[] {
  const words = Object.assign({}, ...insteadIn.filter(({ room }) => room.test(file.path)).map(({ words }) => words));
  const foreign = foreignNames(file);
  const found = new Set<string>();
  everyNode(file.tree, (node) => {
    if ((!ts.isIdentifier(node) && !ts.isPrivateIdentifier(node)) || foreign.has(node.text)) return;
    if (onDisk.has(`${file.path}: ${node.text}`)) return;
    const word = wordsOf(node.text).find((one) => Object.hasOwn(words, one));
    if (word !== undefined) found.add(`${node.text}: ${words[word]}`);
  });
  return [...found];
}

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

t.test('a word names what it means, not another thing of its room', async (t) => {
  for (const file of files) t.same(misplacedNames(file), [], file.path);
});

t.test('a function is named by a verb, not by a bare participle', async (t) => {
  for (const file of files.filter(({ path }) => /^(core|plugins)\//.test(path))) t.same(participles(file), [], file.path);
});
