/** `format.json`, the first file in a new state folder. Where it or any other part of a state exists, no new state is made. */
import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { durableFile } from '../../primitives/durable.js';
import { hasCode, isFields } from '../../primitives/guards.js';
import { sealLine, unsealLine } from './rows.js';

const version = 1;

export interface Format {
  /** The appliance's random id, which is in each copy of the rows. */
  readonly id: string;
  /** ISO 8601. */
  readonly made: string;
  /** `beginning` until both copies exist for the first time; nothing was acknowledged before. */
  readonly phase: 'beginning' | 'kept';
}

export type FormatFound =
  | { readonly format: Format; readonly problem?: undefined }
  | { readonly format?: undefined; readonly problem: string };

const fileOf = (folder: string): string => join(folder, 'format.json');

export function newFormat(): Format {
  return { id: randomBytes(16).toString('hex'), made: new Date().toISOString(), phase: 'beginning' };
}

/** Durable when it resolves. */
export async function writeFormat(folder: string, { id, made, phase }: Format): Promise<void> {
  const text = JSON.stringify({ format: version, id, made, phase });
  const [check] = sealLine(text).split(' ', 1);
  await durableFile(fileOf(folder), `${JSON.stringify({ format: version, id, made, phase, check })}\n`);
}

/** @throws Error when the file cannot be read, or has a later version */
export async function readFormat(folder: string): Promise<FormatFound> {
  const text = await readFile(fileOf(folder), 'utf8').catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  });
  if (text === undefined) return { problem: 'format.json is missing' };
  return parseFormat(text);
}

function parseFormat(text: string): FormatFound {
  try {
    const value: unknown = JSON.parse(text);
    const { check, format, id, made, phase } = isFields(value) ? value : {};
    const sealed = unsealLine(`${check} ${JSON.stringify({ format, id, made, phase })}`);
    if (sealed === undefined || typeof id !== 'string' || typeof made !== 'string') return { problem: 'format.json is damaged' };
    if (format !== version) throw new Error(`the state folder is of format ${format}, which is newer; update the software`);
    return { format: { id, made, phase: phase === 'beginning' ? 'beginning' : 'kept' } };
  } catch (error) {
    if (error instanceof SyntaxError) return { problem: 'format.json is damaged' };
    throw error;
  }
}

/** Files that only a state has. A share, an update or a lost+found may exist before the first start. */
const traces: readonly string[] = ['format.json', 'journal', 'secret.key', 'clock.json', 'setup-code'];

/** Names that show that the folder has contained a state. */
export async function tracesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder);
  const database = names.includes('db') ? await readdir(join(folder, 'db')) : [];
  return [...(database.length > 0 ? ['db'] : []), ...traces.filter((name) => names.includes(name))];
}
