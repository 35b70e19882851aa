/** The only file that names Level: JSON values under string keys, every write synced before it is acknowledged. */
import { ClassicLevel } from 'classic-level';

export type Change =
  | { readonly type: 'put'; readonly key: string; readonly value: unknown }
  | { readonly type: 'del'; readonly key: string };

export interface Database {
  get(key: string): Promise<unknown>;
  /** All or nothing, durable when it resolves. */
  write(changes: readonly Change[]): Promise<void>;
  /** Values whose key begins with the prefix, in key order. */
  list(prefix: string): Promise<unknown[]>;
  /** Runs one action after the other: read-then-write must not interleave. */
  serial<T>(action: () => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export async function openDatabase(folder: string): Promise<Database> {
  const level = new ClassicLevel<string, string>(folder, { keyEncoding: 'utf8', valueEncoding: 'utf8' });
  await level.open();
  let last: Promise<unknown> = Promise.resolve();

  async function write(changes: readonly Change[]): Promise<void> {
    const batch = changes.map((c) =>
      c.type === 'put' ? { type: c.type, key: c.key, value: JSON.stringify(c.value) } : { type: c.type, key: c.key },
    );
    try {
      await level.batch(batch, { sync: true });
    } catch (error) {
      // After a full disk LevelDB refuses every later write until it is opened anew.
      await level.close();
      await level.open();
      throw error;
    }
  }
  return {
    async get(key) {
      const text = await level.get(key);
      return text === undefined ? undefined : JSON.parse(text);
    },
    write,
    async list(prefix) {
      const values: unknown[] = [];
      for await (const text of level.values({ gte: prefix, lt: `${prefix}\uffff` })) values.push(JSON.parse(text));
      return values;
    },
    serial(action) {
      const next = last.then(action);
      last = next.catch(() => undefined);
      return next;
    },
    close: () => level.close(),
  };
}
