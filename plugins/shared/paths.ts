import { randomBytes } from 'node:crypto';
import { type Entry, type ListOptions, type NameRules, PluginError } from '../../core/contract/index.js';

/** Whether the host's `path` is `folder` or lies in it. */
export function within(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder === '/' ? '/' : `${folder}/`);
}

/** Splits a path of the contract into its parts; '' has none. @throws PluginError invalid */
export function pathParts(path: string): readonly string[] {
  if (path === '') return [];
  const parts = path.split('/');
  for (const part of parts) {
    if (part === '' || part === '.' || part === '..' || part.includes('\0'))
      throw new PluginError('invalid', `path ${JSON.stringify(path)} must be relative, without empty parts, '.', '..' or NUL`);
    // UTF-8 encodes a lone surrogate as another character
    if (/\p{Surrogate}/u.test(part))
      throw new PluginError('invalid', `path ${JSON.stringify(path)} holds half a character (a lone surrogate); correct the name`);
  }
  return parts;
}

/** As pathParts, for a file: refuses '' and the names of uploads. @throws PluginError invalid */
export function fileParts(path: string): readonly string[] {
  const parts = pathParts(path);
  if (parts.length === 0) throw new PluginError('invalid', 'the top is a folder; give the path of a file');
  const taken = parts.find(isPart);
  if (taken !== undefined) throw new PluginError('invalid', `${taken} is a name for unfinished uploads; choose another name`);
  return parts;
}

/** As fileParts, for a put: checks each name against the target's rules. @throws PluginError invalid */
export function newFileParts(path: string, rules: NameRules): readonly string[] {
  const parts = fileParts(path);
  for (const part of parts) {
    refuseCharacters(part, rules);
    if (Buffer.byteLength(part) > rules.longest)
      throw new PluginError('invalid', `${JSON.stringify(part)} is longer than the ${rules.longest} bytes of a name; take a shorter one`);
  }
  return parts;
}

/** @throws PluginError invalid for a name with a character that the target refuses */
export function refuseCharacters(name: string, { refused, refusedAtEnd }: NameRules): void {
  const held = [...name].find((char) => refused.includes(char));
  const last = name.at(-1) ?? '';
  if (held !== undefined)
    throw new PluginError('invalid', `${JSON.stringify(name)}: the target keeps no name with ${JSON.stringify(held)}; take another name`);
  if (refusedAtEnd.includes(last))
    throw new PluginError(
      'invalid',
      `${JSON.stringify(name)}: the target keeps no name with ${JSON.stringify(last)} at its end; take another name`,
    );
}

/** The error of a get whose offset is beyond the end of the file; undefined for any other offset. */
export function pastEnd(offset: number, size: number, path: string): PluginError | undefined {
  if (offset <= size) return undefined;
  return new PluginError('invalid', `${path} has ${size} bytes: there is nothing from byte ${offset} on; is it another file by now?`);
}

/** Refuses to remove the top. @throws PluginError invalid */
export function refuseTop(path: string): void {
  if (path === '') throw new PluginError('invalid', 'the top cannot be removed; name a file or folder in it');
}

/** A new name for an upload, in the folder of the final name. It is hidden and has the same form on every target, so that any
 *  target recognises leftovers of another. */
export const partName = (): string => `.container-backup-${randomBytes(8).toString('hex')}.part`;

/** Whether a name is an upload's. */
export const isPart = (name: string): boolean => /^\.container-backup-[0-9a-f]{16}\.part$/.test(name);

/** The entries of a folder that the options ask for. */
export function* filterAsked(found: Iterable<Entry>, o: ListOptions): Generator<Entry> {
  for (const { modified, ...entry } of found) {
    if (entry.unfinished && !o.unfinished) continue;
    yield o.modified && modified !== undefined ? { ...entry, modified } : entry;
  }
}
