/** A table of every field of every body: the type of its value, and values of that type that the service must refuse. */
import type { Body } from '../../support/api-client.js';

const kinds = {
  text: [7, true, null, [], {}, ['a']],
  whole: ['1', 1.5, true, null, [], {}],
  flag: ['true', 0, 1, null, [], {}],
  list: ['compress', 7, true, null, {}],
  object: ['x', 7, true, null, [], [{}]],
} as const;

interface Field {
  readonly kind: keyof typeof kinds;
  readonly required?: true;
  /** An object whose keys are free. */
  readonly open?: true;
  /** Values of the right type that are wrong for another reason. */
  readonly refused?: readonly unknown[];
}

/** Fields by their JSON pointer; the last part is the key. An object's own pointer comes before what is in it. */
export type Fields = Readonly<Record<string, Field>>;

export interface Wrong {
  readonly title: string;
  /** Top-level keys that differ from a good body; undefined removes a key. */
  readonly change: Body;
  readonly pointer: string;
}

const short = (value: unknown): string => {
  const text = JSON.stringify(value) ?? 'left out';
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
};

function changed(good: Body, pointer: string, value: unknown): Body {
  const [key = '', ...rest] = pointer.slice(1).split('/');
  if (rest.length === 0) return { [key]: value };
  const inner = good[key];
  return { [key]: { ...(typeof inner === 'object' ? inner : {}), ...changed({}, `/${rest.join('/')}`, value) } };
}

/** A case for each field and wrong value, for each missing required field, and for an unknown key at each level. */
export function wrongBodies(good: Body, fields: Fields): Wrong[] {
  const wrong = (pointer: string, value: unknown): Wrong => ({
    title: `${pointer} ${short(value)}`,
    change: changed(good, pointer, value),
    pointer,
  });
  const each = Object.entries(fields).flatMap(([pointer, { kind, required, refused = [] }]) => [
    ...[...kinds[kind], ...refused].map((value) => wrong(pointer, value)),
    ...(required ? [wrong(pointer, undefined)] : []),
  ]);
  const levels = ['', ...Object.keys(fields).filter((pointer) => fields[pointer]?.kind === 'object' && !fields[pointer].open)];
  const extra = levels.flatMap((level) => ['unknown', 'Disable', 'a~b'].map((key) => ({ level, key })));
  return [...each, ...extra.map(({ level, key }) => ({ ...wrong(`${level}/${key}`, 1), pointer: `${level}/${key.replace('~', '~0')}` }))];
}

const control = ['a\u0000b', 'a\nb', 'a\u007fb'];
const names = ['', '.hidden', 'a/b', 'a.', 'a ', ...control, ...[...'<>:"|?*\\'].map((one) => `a${one}b`), '..', 'x'.repeat(65)];
const containers = ['', '../x', '-rf', 'a b', 'a/b', '.a', 'a%2fb', ...control, 'x'.repeat(256)];
const types = ['', 'LXC', 'lxc ', 'none-of-these', '../lxc', 'x'.repeat(33), 'local'];
const paths = [
  '',
  '/',
  'test',
  'test/x',
  '/other/x',
  '/test/../x',
  '/test/./x',
  '/test//x',
  '//test',
  ...control,
  `/test/${'x'.repeat(1020)}`,
];

/** `at` itself is not in the table, because each repetition has fields of its own. */
export const backupFields: Fields = {
  '/job_name': { kind: 'text', required: true, refused: names },
  '/container_id': { kind: 'text', required: true, refused: containers },
  '/type': { kind: 'text', required: true, refused: types },
  '/dest': { kind: 'object', required: true },
  '/dest/target': { kind: 'text', required: true, refused: ['', 'Local', 'cloud'] },
  '/dest/path': { kind: 'text', required: true, refused: paths },
  '/dest/profile': { kind: 'whole', refused: [1, 0, -1] }, // allowed with remote only
  '/at': { kind: 'object', required: true },
  '/at/repeat': { kind: 'text', required: true, refused: ['', 'hourly', 'Daily'] },
  '/at/start': { kind: 'whole', refused: [-1, 86_400, 1e12, 1e300] },
  '/at/times': { kind: 'whole', refused: [0, 25, -1] },
  '/at/days': { kind: 'list', refused: [[], [1]] }, // not allowed with daily
  '/disable': { kind: 'flag' },
  '/retention': { kind: 'whole', refused: [1, -1, 2_147_483_648, 1e300] },
  '/features': { kind: 'list' },
  '/exclude': { kind: 'list' },
};

export const restoreFields: Fields = {
  '/job_name': { kind: 'text', required: true, refused: names },
  '/container_id': { kind: 'text', required: true, refused: containers },
  '/type': { kind: 'text', required: true, refused: types },
  '/src': { kind: 'object', required: true },
  '/src/target': { kind: 'text', required: true, refused: ['', 'Local', 'cloud'] },
  '/src/path': { kind: 'text', required: true, refused: paths },
  '/src/profile': { kind: 'whole', refused: [1, 0, -1] },
  '/src/portfolio': { kind: 'text', refused: ['', ...control, 'x'.repeat(257)] },
  '/disable': { kind: 'flag' },
};

const words = ['', '-x', ...control, 'x'.repeat(257)];
const addresses = ['', 'h:0', 'h:65536', 'h:', ':22', 'a b', 'u@h', 'h/x', '-h', '::1', '[::1', '[zz]:1', 'h\n', 'x'.repeat(281)];
const forbidden = [
  '169.254.1.1',
  '0xa9fe0101',
  '2851995905',
  '224.0.0.1',
  '255.255.255.255',
  '[fe80::1]:22',
  '[ff02::1]',
  '[::ffff:169.254.1.1]',
];

export const targetFields: Fields = {
  '/name': { kind: 'text', required: true, refused: words },
  '/ipaddr': { kind: 'text', required: true, refused: [...addresses, ...forbidden] },
  '/username': { kind: 'text', required: true, refused: words },
  '/password': { kind: 'text', required: true, refused: ['a\nb', 'a\rb', 'a\u0000b', 'x'.repeat(1025)] },
  '/desc': { kind: 'text', refused: ['x'.repeat(1025)] },
  '/base': { kind: 'text', refused: ['', '/a/../b', '/a//b', '/./a', ...control, 'x'.repeat(1025)] },
  '/encrypt': { kind: 'flag' },
  '/type': { kind: 'text', refused: types.filter((type) => type !== 'local').concat('lxc') },
  '/options': { kind: 'object', open: true },
};

export const setupFields: Fields = {
  '/code': { kind: 'text', required: true, refused: ['', 'x'.repeat(257)] },
  '/username': { kind: 'text', required: true, refused: ['', '-a', 'a b', 'a/b', ...control, 'x'.repeat(65)] },
  '/password': { kind: 'text', required: true, refused: ['', '1234567', 'x'.repeat(1025)] },
};

export const loginFields: Fields = {
  '/username': { kind: 'text', required: true, refused: ['', 'x'.repeat(65)] },
  '/password': { kind: 'text', required: true, refused: ['x'.repeat(1025)] },
};

export const preferenceFields: Fields = {
  '/backup_concurrent': { kind: 'whole', required: true, refused: [0, -1, 17, 1e300] },
};

/** Values of `at` whose fields are wrong together, each with the field of the error. */
export const wrongTimes: readonly (readonly [at: Body, pointer: string])[] = [
  [{ repeat: 'daily', start: 1, time: '01:00' }, '/at'],
  ...['24:00', '1:00', '01:60', '01:00:00', '', ' 01:00', '01:00\n'].map((time) => [{ repeat: 'daily', time }, '/at/time'] as const),
  ...[1, null, [], {}].map((time) => [{ repeat: 'daily', time }, '/at/time'] as const),
  [{ repeat: 'weekly', start: 1 }, '/at/days'],
  [{ repeat: 'weekly', start: 1, days: [] }, '/at/days'],
  ...[7, -1, 1.5, '1', null].map((one) => [{ repeat: 'weekly', start: 1, days: [0, one] }, '/at/days/1'] as const),
  [{ repeat: 'weekly', start: 1, days: [1], times: 2 }, '/at/times'],
  [{ repeat: 'weekly', start: 1, days: Array.from({ length: 65 }, () => 1) }, '/at/days'],
  ...[0, 32, -1, 1.5, '1'].map((one) => [{ repeat: 'monthly', start: 1, days: [1, one] }, '/at/days/1'] as const),
  [{ repeat: 'monthly', start: 1 }, '/at/days'],
  [{ repeat: 'monthly', start: 86_400, days: [1] }, '/at/start'],
  [{ repeat: 'oneshot' }, '/at/start'],
  ...[0, 1000, 1.5, -1, '9999999999', 1e300].map((start) => [{ repeat: 'oneshot', start }, '/at/start'] as const),
  [{ repeat: 'oneshot', start: 9_999_999_999, time: '01:00' }, '/at/time'],
  [{ repeat: 'oneshot', start: 9_999_999_999, times: 2 }, '/at/times'],
  [{ repeat: 'oneshot', start: 9_999_999_999, days: [1] }, '/at/days'],
];

/** Lists with one wrong item, and locations that are wrong as a whole. */
export const wrongParts: readonly (readonly [change: Body, pointer: string])[] = [
  ...['zip', '', 'Pause', 7, null, {}, []].map((one) => [{ features: ['compress', one] }, '/features/1'] as const),
  [{ features: Array.from({ length: 17 }, () => 'pause') }, '/features'],
  ...['', 'volume', 'a b:/x', ':x', 'data:', 'data:a\nb', `data:${'x'.repeat(1024)}`, 7, null].map(
    (one) => [{ exclude: [one] }, '/exclude/0'] as const,
  ),
  [{ exclude: Array.from({ length: 257 }, () => 'data:/x') }, '/exclude'],
  [{ dest: { target: 'remote', path: '/x' } }, '/dest/profile'],
  [{ dest: { target: 'remote', path: '/x', profile: 999 } }, '/dest/profile'],
  [{ dest: { target: 'remote', path: '/../x', profile: 1 } }, '/dest/path'],
];
