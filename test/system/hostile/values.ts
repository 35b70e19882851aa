/** Values that an attacker would try, or that break careless code. A seed determines them, so that a failure can be repeated. */

/** A number from 0 up to, but not, 1. */
export type Random = () => number;

export function pick<T>(random: Random, list: readonly T[]): T {
  const found = list[Math.floor(random() * list.length)];
  if (found === undefined) throw new Error('nothing to pick from');
  return found;
}

/** Whether UTF-8 can encode it: half of a surrogate pair becomes another character. */
export const isText = (value: string): boolean => !/\p{Surrogate}/u.test(value);

/** The value for messages: shortened and printable. */
export function shownValue(value: string): string {
  const text = JSON.stringify(value).replace(/[^\x20-\x7e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return text.length > 120 ? `${text.slice(0, 100)}…" (${value.length})` : text;
}

const words = ['a', 'x', 'backup', 'nas', 'data', 'File', '0', 'é', 'media'];

/** The parts of a line, between its bars. */
const parts = (line: string): string[] => line.split(' ¦ ');

/** Characters with a meaning in a shell, a pattern, a protocol, an option or a file system. */
const spices = [
  ...parts(`; ¦ ' ¦ " ¦ \` ¦ | ¦ || ¦ & ¦ && ¦ $ ¦ $( ¦ ) ¦ \${HOME} ¦ $HOME ¦ $0 ¦ ! ¦ !id ¦ # ¦ < ¦ > ¦ ( ¦ {a,b} ¦ } ¦ ~ ¦ ^ ¦ =`),
  ...parts(String.raw`* ¦ ? ¦ [ ¦ ] ¦ [a-z] ¦ ** ¦ *** ¦ \ ¦ \\ ¦ \* ¦ \#012 ¦ \n ¦ % ¦ %s%n ¦ %2e%2e ¦ %00 ¦ %2f ¦ %U`),
  ...parts(', ¦ : ¦ :: ¦ @ ¦ + ¦ - ¦ -- ¦ . ¦ .. ¦ ..; ¦ ü ¦ ß ¦ 日本 ¦ 📦 ¦ 👩‍👩‍👧 ¦ مرحبا ¦ שלום'),
  ...[' ', '  ', '\u00a0', '\u2028', '\ufeff', '\u200b', '\uff0f', '\u2215', 'e\u0301', '\u212b', '\u202e', '\u200f'],
  ...['\ufffd', '\uffff', '\u{10ffff}'],
];
const controls = ['\n', '\r', '\r\n', '\t', '\u0001', '\u001b[2J', '\u007f', '\u0085', '\b'];

/** Characters that no path or no text can hold. */
const impossible = ['\0', '\ud800', '\udfff', '\udc00\ud800', '/../', '/./', '//', '/..', '../'];

/** Commands. Each makes a file with the name `mark` when a program executes it. */
function commands(mark: string): string[] {
  const plain = [`touch ${mark}`, `touch /tmp/${mark}`, `touch\${IFS}${mark}`, `touch\${IFS}/tmp/${mark}`, `touch\t${mark}`];
  const around: readonly ((command: string) => string)[] = [
    (one) => `$(${one})`,
    (one) => `\`${one}\``,
    (one) => `;${one};`,
    (one) => `|${one}`,
    (one) => `&${one}&`,
    (one) => `"; ${one}; "`,
    (one) => `'; ${one}; '`,
    (one) => `'"$(${one})"'`,
    (one) => `\n${one}\n`,
    (one) => `\n!${one}\n`,
    (one) => `"; !${one}; "`,
    (one) => `" ; !${one}`,
    (one) => `\\$(${one})`,
    (one) => `\r${one}\r`,
  ];
  return [...around.flatMap((wrap) => plain.map(wrap)), `>${mark}`, `>/tmp/${mark}`, `&>${mark}`, `"\n!touch /tmp/${mark}\n"`];
}

/** Whole values that have a meaning in some protocol or program. */
const special = [
  ...parts('- ¦ -- ¦ -v ¦ --help ¦ -rf ¦ --delete ¦ --files-from=/etc/passwd ¦ -oPermitLocalCommand=yes ¦ -s/dev/null ¦ -A/etc/passwd'),
  ...parts('host:path ¦ host::module ¦ 127.0.0.1:/etc ¦ rsync://x/y ¦ //x/y ¦ user@host ¦ x:y:z ¦ file:///etc/passwd ¦ @x ¦ server:/x'),
  ...parts('~root ¦ ~ ¦ ~/x ¦ ~root/x ¦ ~+ ¦ ~- ¦ . ¦ .. ¦ ... ¦ ..x ¦ x.. ¦ / ¦ // ¦ /x ¦ x/ ¦ /etc/passwd ¦ ../x ¦ x/../y ¦ x/../../y'),
  ...parts('../../../../../../tmp/x ¦ x/./y ¦ x//y ¦ x/.. ¦ ./x ¦ C:x ¦ c:/x ¦ CON ¦ nul.txt ¦ x. ¦ x./y ¦ a:b ¦ x::$DATA'),
  ...parts(String.raw`\\x\y ¦ ..\..\x ¦ x\..\y ¦ C:\x ¦ \ ¦ \x ¦ x\ ¦ * ¦ ? ¦ [ ¦ [!a] ¦ ** ¦ *** ¦ % ¦ %% ¦ $ ¦ $$`),
  ...parts('.container-backup-0123456789abcdef.part ¦ x/.container-backup-fedcba9876543210.part/y ¦ .container-backup-…part'),
  ...parts('.container-backup-0123456789ABCDEF.part ¦ .container-backup-0123456789abcdef.part. ¦ .container-backup-.part ¦ .smb-0'),
  ...parts('container-backup@x ¦ x.pieces ¦ x.pieces/0001-000001 ¦ x.pieces/y ¦ .pieces ¦ .whole-0001-1-5 ¦ 0001-000001 ¦ x.PIECES'),
  ...parts(
    'null ¦ undefined ¦ NaN ¦ __proto__ ¦ constructor ¦ toString ¦ put x ¦ quit ¦ !id ¦ # x ¦ ; x ¦ + x ¦ - x ¦ . x ¦ : x ¦ R x ¦ P x',
  ),
  ...parts('NT_STATUS_DISK_FULL ¦ end-0: command not found ¦ No such file or directory ¦ Permission denied ¦ 日本/📦/ü'),
  ...['.. ', ' ..', '. ', 'x.pieces ', 'x ', ' x', ' ', '  x  ', '\tx', 'x\n', '\nx', 'x\r', 'dir\0', '\u202egnp.x'],
  ...['n'.repeat(240), 'a'.repeat(255), 'n'.repeat(256), '/'.repeat(50), `${'d/'.repeat(60)}f`],
];

/** Options of programs that the plugins start. Each would start another program. */
const options = (mark: string): string[] =>
  parts(`-oProxyCommand=touch /tmp/${mark} ¦ -oProxyCommand=touch\${IFS}${mark} ¦ --rsh=touch ${mark} ¦ -e touch ${mark} ¦ -U${mark}`);

/** Puts the text at a random position of the value, often at an end. */
function put(random: Random, value: string, piece: string): string {
  const at = pick(random, [0, value.length, Math.floor(random() * (value.length + 1))]);
  return value.slice(0, at) + piece + value.slice(at);
}

const long = (random: Random): string =>
  pick(random, ['x', 'ü', '$(id)', '/x', ' ', '%n', 'a;b', '📦']).repeat(pick(random, [300, 1300, 5000]));

/** Makes one value after the other. The file `mark` shows that a value was executed. */
export class HostileValues {
  readonly #commands: readonly string[];
  readonly #special: readonly string[];

  constructor(
    readonly random: Random,
    readonly mark: string,
    /** Part of the values that no target can store, from 0 to 0.6. */
    readonly impossible = 0.3,
  ) {
    this.#commands = commands(mark);
    this.#special = [...special, ...options(mark)];
  }

  /** Words mixed with special characters and commands. Every kind occurs, and a target can store many of them. */
  next(): string {
    const { random } = this;
    const kind = random();
    if (kind < 0.03) return long(random).slice(0, pick(random, [300, 5000]));
    if (kind < 0.25) return pick(random, this.#special);
    const mixed = this.#mixed(pick(random, [1, 1, 2, 3]), random() < 0.4);
    if (kind < 0.94 - this.impossible) return mixed;
    return put(random, mixed, pick(random, kind < 0.94 ? impossible : controls));
  }
  #mixed(count: number, command: boolean): string {
    let value = pick(this.random, words);
    for (let n = 0; n < count; n++) {
      value = put(this.random, value, pick(this.random, spices));
      if (this.random() < 0.4) value = put(this.random, value, pick(this.random, words));
      if (this.random() < 0.05) value = put(this.random, value, '/');
    }
    return command ? put(this.random, value, pick(this.random, this.#commands)) : value;
  }
  take(count: number): string[] {
    return Array.from({ length: count }, () => this.next());
  }
}
