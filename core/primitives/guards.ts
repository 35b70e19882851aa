/** An object read from outside; its values are unchecked. */
export type Fields = Readonly<Record<string, unknown>>;

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The next id in a counter's row; undefined where there is none. */
export function nextId(text: string | undefined): number | undefined {
  const value: unknown = text === undefined ? undefined : JSON.parse(text);
  return isFields(value) && typeof value.next === 'number' ? value.next : undefined;
}

/** Whether an error of the operating system or of Node has one of the codes, such as ENOENT. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code);
}
