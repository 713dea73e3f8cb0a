// The assignment problem: n rows to n columns, one each, at the smallest total cost. Shortest augmenting paths with
// potentials (Jonker and Volgenant's form of the Hungarian method), O(n³).

/**
 * @param cost - row-major n × n; any finite numbers.
 * @returns column of each row; length n. Of equally cheap assignments, the one found first in index order.
 */
export function hungarian(cost: Float64Array, n: number): Int32Array {
  // Rows and columns count from 1 here; 0 is the artificial column from which each search starts.
  const rowPotential = new Float64Array(n + 1);
  const columnPotential = new Float64Array(n + 1);
  const rowOfColumn = new Int32Array(n + 1);
  const previous = new Int32Array(n + 1);
  const slack = new Float64Array(n + 1);
  const visited = new Uint8Array(n + 1);
  for (let row = 1; row <= n; row++) {
    rowOfColumn[0] = row;
    slack.fill(Number.POSITIVE_INFINITY);
    visited.fill(0);
    let column = 0;
    // Grows a tree of tight edges until it meets a free column.
    do {
      visited[column] = 1;
      const current = rowOfColumn[column]!;
      const base = (current - 1) * n - 1;
      const potential = rowPotential[current]!;
      let smallest = Number.POSITIVE_INFINITY;
      let next = 0;
      for (let j = 1; j <= n; j++) {
        if (visited[j]) continue;
        const reduced = cost[base + j]! - potential - columnPotential[j]!;
        if (reduced < slack[j]!) {
          slack[j] = reduced;
          previous[j] = column;
        }
        if (slack[j]! < smallest) {
          smallest = slack[j]!;
          next = j;
        }
      }
      for (let j = 0; j <= n; j++) {
        if (visited[j]) {
          rowPotential[rowOfColumn[j]!]! += smallest;
          columnPotential[j]! -= smallest;
        } else slack[j]! -= smallest;
      }
      column = next;
    } while (rowOfColumn[column] !== 0);
    // Turns the path around: each column on it takes the row of the column before.
    while (column !== 0) {
      const before = previous[column]!;
      rowOfColumn[column] = rowOfColumn[before]!;
      column = before;
    }
  }
  const columnOfRow = new Int32Array(n);
  for (let j = 1; j <= n; j++) columnOfRow[rowOfColumn[j]! - 1] = j - 1;
  return columnOfRow;
}
