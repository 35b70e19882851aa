/** Searches for secrets in the arguments and the environment of every process, and in files. */
import { readdirSync, readFileSync } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';

const everyMs = 8;

/** The forms of a secret as bytes: UTF-8, UTF-16, hexadecimal, and base64 at each offset. */
function formsOf(secret: string): Buffer[] {
  const bytes = Buffer.from(secret);
  // the first and the last character also depend on the neighbouring bytes
  const shifted = [0, 1, 2].map((shift) =>
    Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64')
      .slice(shift + 1, -4),
  );
  return [bytes, Buffer.from(secret, 'utf16le'), Buffer.from(bytes.toString('hex')), ...shifted.map((text) => Buffer.from(text))];
}

/** First word of most secrets. A search for this one word comes first, so that most bytes need only one pass. */
export const canaryMark = 'canary-';

type Form = readonly [name: string, form: Buffer];

/** Secrets by their names in messages. */
export class Canaries {
  readonly #forms: readonly Form[];
  /** Forms of the secrets that do not begin with the mark. */
  readonly #others: readonly Form[];
  readonly #marks = formsOf(canaryMark);
  readonly longest: number;

  constructor(secrets: Readonly<Record<string, string>>) {
    const all = Object.entries(secrets);
    for (const [name, secret] of all) if (secret.length < 16) throw new Error(`${name} is too short to be told from anything else`);
    const formed = (some: typeof all): Form[] => some.flatMap(([name, secret]) => formsOf(secret).map((form) => [name, form] as const));
    this.#forms = formed(all);
    this.#others = formed(all.filter(([, secret]) => !secret.startsWith(canaryMark)));
    this.longest = Math.max(0, ...this.#forms.map(([, form]) => form.length));
  }
  /** Names of the secrets that the bytes contain. */
  in(bytes: Buffer | string): string[] {
    const all = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
    const forms = this.#marks.some((mark) => all.includes(mark)) ? this.#forms : this.#others;
    return [...new Set(forms.flatMap(([name, form]) => (all.includes(form) ? [name] : [])))];
  }
}

function bytesOf(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0); // a process may end while it is read
  }
}

/** Finds the descendants of a process. Each call examines only new processes. One that has lost its parent still counts. */
class Offspring {
  #known = new Map<number, boolean>();

  constructor(private readonly pid: number) {}

  now(): number[] {
    const pids = readdirSync('/proc').flatMap((entry) => (/^\d+$/.test(entry) ? [Number(entry)] : []));
    const before = this.#known;
    this.#known = new Map();
    for (const pid of pids) this.#known.set(pid, this.#isOurs(pid, before));
    return pids.filter((pid) => this.#known.get(pid));
  }
  #isOurs(pid: number, before: ReadonlyMap<number, boolean>): boolean {
    const known = before.get(pid) ?? this.#known.get(pid);
    if (known !== undefined || pid <= 1) return known ?? false;
    // the name in parentheses may hold anything, a parenthesis too
    const parent = Number(/^.*\) \S (\d+) /s.exec(bytesOf(`/proc/${pid}/stat`).toString('latin1'))?.[1] ?? 0);
    return parent === this.pid || this.#isOurs(parent, before);
  }
}

const firstWord = (cmdline: Buffer): string => basename(cmdline.toString('latin1').split('\0', 1)[0] ?? '');

/** Samples arguments and environment of a process and its descendants, until it is disposed. It reads synchronously, so that a sample
 *  shows one moment. */
export class ProcessWatch implements Disposable {
  readonly #timer: NodeJS.Timeout;
  readonly #offspring: Offspring;
  readonly #found = new Set<string>();
  /** Arguments of each process in the last sample. They and the environment change only together, by exec. */
  #looked = new Map<number, Buffer>();
  /** Names of the commands so far. */
  readonly commands = new Set<string>();
  samples = 0;

  constructor(
    private readonly pid: number,
    private readonly canaries: Canaries,
    /** Samples only what it starts, not the process itself. */
    private readonly o: { readonly childrenOnly?: boolean } = {},
  ) {
    this.#offspring = new Offspring(pid);
    this.#timer = setInterval(() => this.#sample(), everyMs);
    this.#sample();
  }
  #sample(): void {
    const before = this.#looked;
    this.#looked = new Map();
    for (const pid of [...(this.o.childrenOnly ? [] : [this.pid]), ...this.#offspring.now()]) {
      const cmdline = bytesOf(`/proc/${pid}/cmdline`);
      this.#looked.set(pid, cmdline);
      if (before.get(pid)?.equals(cmdline)) continue;
      this.commands.add(firstWord(cmdline));
      for (const [kind, bytes] of [['cmdline', cmdline] as const, ['environ', bytesOf(`/proc/${pid}/environ`)] as const])
        for (const canary of this.canaries.in(bytes))
          this.#found.add(`${canary} in ${kind} of ${String(bytesOf(`/proc/${pid}/comm`)).trim()}`);
    }
    this.samples++;
  }
  get found(): readonly string[] {
    return [...this.#found].sort();
  }
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

const chunk = 4 << 20;

async function inFile(path: string, canaries: Canaries): Promise<string[]> {
  const found = new Set<string>();
  await using file = await open(path, 'r');
  const bytes = Buffer.alloc(chunk + canaries.longest);
  // the end of each chunk is searched again with the next one: a secret may lie across both
  for (let at = 0, kept = 0; ; ) {
    const { bytesRead } = await file.read(bytes, kept, chunk, at);
    if (bytesRead === 0) return [...found];
    for (const name of canaries.in(bytes.subarray(0, kept + bytesRead))) found.add(name);
    at += bytesRead;
    const end = kept + bytesRead;
    kept = Math.min(canaries.longest, end);
    bytes.copyWithin(0, end - kept, end);
  }
}

export interface Where {
  /** Folders and files to skip, with their content. */
  readonly except?: readonly string[];
  /** Skips files that are older than this, epoch ms. */
  readonly since?: number;
}

/** `<name> in <path>` for each file below a folder with a canary in its bytes or its name. Skips other file systems, and files that are
 *  removed meanwhile. */
export async function canariesBelow(folder: string, canaries: Canaries, o: Where = {}): Promise<string[]> {
  const found: string[] = [];
  const { dev } = await lstat(folder);
  const visit = async (path: string): Promise<void> => {
    const there = await lstat(path).catch(() => undefined);
    if (there === undefined || there.dev !== dev || o.except?.includes(path)) return;
    if (there.isDirectory()) {
      for (const name of await readdir(path).catch(() => [])) {
        for (const canary of canaries.in(name)) found.push(`${canary} in the name ${path}/${name}`);
        await visit(join(path, name));
      }
    }
    if (!there.isFile() || Math.max(there.mtimeMs, there.ctimeMs) < (o.since ?? 0)) return;
    for (const canary of await inFile(path, canaries).catch(() => [])) found.push(`${canary} in ${path}`);
  };
  await visit(folder);
  return found;
}
