const mostAtOnce = 2;

/** How many sources are read or written at a time, on a target of so many connections. A source of many small files waits for the disk
 *  and leaves a core idle that another source can use. Each costs the memory of a compressor. */
export const sourcesAtOnce = (connections: number): number => Math.max(1, Math.min(mostAtOnce, connections));
