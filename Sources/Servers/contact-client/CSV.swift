/// Comma-separated values. See: RFC 4180
enum CSV {
  struct Row {
    /// The line that it begins on, from 1 on.
    let line: Int
    let fields: [String]
  }

  struct Mistake: Error {
    let line: Int
    let reason: String
  }

  /// One line, with quotes where they are needed.
  static func line(_ fields: [String]) -> String {
    let quoted = fields.map { field in
      let needsQuotes =
        field.contains(where: { [",", "\"", "\n", "\r"].contains($0) }) || field.hasPrefix(" ")
        || field.hasSuffix(" ")
      return needsQuotes
        ? "\"\(field.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\""))\""
        : field
    }
    return quoted.joined(separator: ",") + "\n"
  }

  /// Takes a file apart. Lines end with LF or CRLF, the last one with or without; empty lines are passed over.
  static func rows(_ bytes: [UInt8]) throws(Mistake) -> [Row] {
    let (comma, quote, lineFeed, carriageReturn) = (
      UInt8(ascii: ","), UInt8(ascii: "\""), UInt8(ascii: "\n"), UInt8(ascii: "\r")
    )
    // A byte order mark, which some spreadsheets write.
    var place = bytes.starts(with: [0xef, 0xbb, 0xbf]) ? 3 : 0
    var rows: [Row] = []
    var line = 1
    while place < bytes.count {
      let firstLine = line
      var fields: [String] = []
      var isRowDone = false
      while !isRowDone {
        var field: [UInt8] = []
        if place < bytes.count, bytes[place] == quote {
          place += 1
          while true {
            guard place < bytes.count else {
              throw Mistake(line: firstLine, reason: "a quoted value has no closing quote")
            }
            let byte = bytes[place]
            place += 1
            if byte == quote {
              guard place < bytes.count, bytes[place] == quote else { break }
              place += 1
            }
            if byte == lineFeed { line += 1 }
            field.append(byte)
          }
        } else {
          while place < bytes.count, ![comma, lineFeed, carriageReturn].contains(bytes[place]) {
            if bytes[place] == quote {
              throw Mistake(line: line, reason: "a quote in a value without quotes; write \"\" inside quotes")
            }
            field.append(bytes[place])
            place += 1
          }
        }
        guard let text = String(validating: field, as: UTF8.self) else {
          throw Mistake(line: firstLine, reason: "a value is not valid UTF-8")
        }
        fields.append(text)
        if place < bytes.count, bytes[place] == comma {
          place += 1
          continue
        }
        isRowDone = true
        if place < bytes.count, bytes[place] == carriageReturn { place += 1 }
        guard place < bytes.count else { continue }
        guard bytes[place] == lineFeed else {
          throw Mistake(
            line: line, reason: "something stands behind a closing quote, or a line ends with CR alone")
        }
        place += 1
        line += 1
      }
      if fields != [""] { rows.append(Row(line: firstLine, fields: fields)) }
    }
    return rows
  }
}
