import t from 'tap';
import { pointsOf } from '../support/depth.js';
import { type Random, seededRandom } from '../system/crash/random.js';
import { type Crafted, craftedArchives, tarOf } from '../system/hostile/crafted-archives.js';
import { escapeBed, extracted } from '../system/hostile/escape-bed.js';

const { archives } = pointsOf('mutated');
const random = seededRandom();
t.comment(`TEST_SEED=${random.seed}`);

const types = ['0', '1', '2', '3', '5', '6', 'D', 'x'] as const;
const some = (count: number): number => Math.floor(random.next() * count);

function names(outside: string): readonly string[] {
  const ends = ['', '/', '/keep', '/sub', '/sub/', '/new'];
  const starts = ['./x', 'x', './.', '..', './..', '../outside', './x/..', './x/outside', outside, `/${outside}`, './taken', '.'];
  return starts.flatMap((start) => ends.map((end) => `${start}${end}`));
}

/** One field of an entry is another. */
function mutatedEntry(entry: Crafted, name: () => string, { pick }: Random): Crafted {
  const lists = ['Y', 'N', 'D', 'R', 'T', 'X'].map((letter) => `${letter}${name()}\0`);
  const list = `${Array.from({ length: some(5) }, () => pick(lists) ?? '').join('')}\0`;
  return (
    pick([
      { ...entry, name: name() },
      { ...entry, target: name() },
      { ...entry, type: pick(types) ?? '0' },
      { ...entry, type: 'D' as const, data: list },
      { ...entry, data: `${20 + list.length} GNU.dumpdir=${list}\n`, type: 'x' as const },
      { ...entry, size: some(5000) },
      { ...entry, data: `${entry.data ?? ''}${'more'.repeat(some(300))}` },
    ]) ?? entry
  );
}

/** Entries go, come twice, come in another order or are changed. */
function mutatedLevel(level: readonly Crafted[], name: () => string): Crafted[] {
  const rest = level.flatMap((entry) => {
    const dice = random.next();
    if (dice < 0.05) return [];
    const changed = dice < 0.55 ? mutatedEntry(entry, name, random) : entry;
    return dice > 0.9 ? [entry, mutatedEntry(entry, name, random)] : [changed];
  });
  return random.next() < 0.2 ? random.shuffled(rest) : rest;
}

/** A few bytes are others, or it ends early; the checksums are no longer right. */
function mutatedBytes(bytes: Buffer): Buffer {
  const result = Buffer.from(bytes);
  for (let n = some(4); n > 0; n--) result[some(result.length)] = some(256);
  return random.next() < 0.2 ? result.subarray(0, some(result.length)) : result;
}

t.test(`${archives} mutated archives change nothing outside the folder into which they are extracted`, async (t) => {
  const codes = new Map<string, number>();
  const out: string[] = [];
  for (let n = 0; n < archives; n++) {
    const { tree, outside, look } = await escapeBed(t);
    const known = names(outside);
    const levels = random.pick(craftedArchives(outside))?.levels ?? [[], []];
    const before = look();
    for (const level of levels) {
      const bytes = tarOf(mutatedLevel(level, () => random.pick(known) ?? '.'));
      const code = await extracted(random.next() < 0.3 ? mutatedBytes(bytes) : bytes, tree);
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    if (look().join() !== before.join()) out.push(`archive ${n}: ${JSON.stringify(levels)}`);
  }
  t.same(out, []);
  t.comment([...codes].map(([code, count]) => `${count} ended ${code}`).join(', '));
  t.same([...codes.keys()].sort(), ['failed', 'fine'], 'each was extracted or refused with a code');
});
