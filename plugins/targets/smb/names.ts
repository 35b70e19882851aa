import { type NameRules, PluginError } from '../../../core/contract/index.js';
import { refuseCharacters } from '../../shared/paths.js';

/** A line to smbclient holds two paths at most and must stay under 8 KiB: smbclient would take the rest of a longer line for a
 *  command. */
const longestPath = 3_800;

const controls = String.fromCharCode(...Array.from({ length: 31 }, (_, n) => n + 1), 127);

/** Rules for SMB names. Windows, and Samba by default, ignore case. */
export const smbNames: NameRules = { refused: `"*:<>?|\\${controls}`, refusedAtEnd: ' ', caseSensitive: false, longest: 255 };

/** Names of devices: Windows finds no file under them, whatever follows a dot, and Samba lists such a file under another name.
 *  https://learn.microsoft.com/windows/win32/fileio/naming-a-file */
const device = /^(?:con|prn|aux|nul|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\.|$)/i;

/** Refuses names that SMB cannot store, before anything is sent. The accepted names are safe in a command: none can end its quotes
 *  or match other names. @throws PluginError invalid */
export function checkNames(parts: readonly string[]): void {
  for (const part of parts) {
    refuseCharacters(part, smbNames);
    if (device.test(part)) throw new PluginError('invalid', `${JSON.stringify(part)} is the name of a device for SMB; take another name`);
  }
  if (Buffer.byteLength(parts.join('\\')) > longestPath)
    throw new PluginError('invalid', `a path on an SMB share may have ${longestPath} bytes at most, with its base`);
}

/** Some servers, such as Samba by default, store a name that ends in a dot under another name. */
export const endsInDot = (name: string): boolean => name.endsWith('.');

/** Quotes a path for smbclient. Only for parts that passed checkNames. */
export const quote = (parts: readonly string[]): string => `"${sharePath(parts)}"`;
export const sharePath = (parts: readonly string[]): string => `\\${parts.join('\\')}`;
