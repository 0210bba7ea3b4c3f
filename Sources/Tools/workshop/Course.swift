import CommandLineTool
import Glibc
import SystemCalls

/// The exercises of a folder of lessons, in their order.
struct Course {
  let exercises: [Exercise]

  /// - Throws: where the folder cannot be read, or holds none.
  init(_ place: Place) throws(Complaint) {
    let folders = try Self.entries(place.course, place).filter { name in
      let number = name.prefix { $0.isASCII && $0.isNumber }
      return !number.isEmpty && name.dropFirst(number.count).hasPrefix("-") && name.count > number.count + 1
        && name.printable == name && Place.isFolder("\(place.course)/\(name)")
    }
    var exercises: [Exercise] = []
    for folder in folders.sorted(by: Self.isBefore) {
      let files = try Self.entries("\(place.course)/\(folder)", place)
      let suffixes = files.compactMap {
        Self.suffix(of: $0, "exercise", ".swift") ?? Self.suffix(of: $0, "check", ".json")
      }
      for suffix in Set(suffixes).sorted(by: { (Int($0) ?? 1) < (Int($1) ?? 1) }) {
        exercises.append(Exercise(number: exercises.count + 1, folder: folder, suffix: suffix, place: place))
      }
    }
    if exercises.isEmpty {
      throw Complaint(
        "there are no exercises in \(place.shown(place.course)): none of its folders NN-name holds an exercise.swift"
      )
    }
    self.exercises = exercises
  }

  /// "12-event-loop" comes after "2-bind".
  private static func isBefore(_ one: String, _ other: String) -> Bool {
    func number(_ name: String) -> Int { Int(name.prefix { $0.isNumber }) ?? .max }
    return (number(one), one) < (number(other), other)
  }

  /// "2" of "exercise2.swift", "" of "exercise.swift", nil of other names.
  private static func suffix(of file: String, _ start: String, _ end: String) -> String? {
    guard file.hasPrefix(start), file.hasSuffix(end), file.count >= start.count + end.count else {
      return nil
    }
    let suffix = String(file.dropFirst(start.count).dropLast(end.count))
    guard !suffix.isEmpty else { return suffix }
    return Int(suffix).map { $0 > 1 && "\($0)" == suffix } ?? false ? suffix : nil
  }

  private static func entries(_ folder: String, _ place: Place) throws(Complaint) -> [String] {
    guard let directory = opendir(folder) else {
      throw Complaint("\(place.shown(folder)) cannot be read: \(ErrorNumber.last)")
    }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) {
        String(validating: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if let name { names.append(name) }
    }
    return names
  }

  /// The exercise that a word means: a number, a name, a part of it, a file.
  ///
  /// - Throws: where there is none, or more than one.
  func exercise(_ word: String) throws(Complaint) -> Exercise {
    if let number = Int(word) {
      guard exercises.indices.contains(number - 1) else {
        throw Self.unknown("there is no exercise \(word); there are 1 to \(exercises.count)")
      }
      return exercises[number - 1]
    }
    // A path may come from a shell's completion.
    let parts = word.split(separator: "/").suffix(2).joined(separator: "/").lowercased()
    let found = exercises.filter { $0.names.contains { $0.lowercased() == parts } }
    if found.count == 1 { return found[0] }
    if found.count > 1 {
      throw Self.unknown("'\(word)' may be \(found.map(\.name).joined(separator: " or ")); which one?")
    }
    let near = exercises.flatMap(\.names).filter { $0.lowercased().distance(to: parts) <= 3 }.min {
      $0.lowercased().distance(to: parts) < $1.lowercased().distance(to: parts)
    }
    throw Self.unknown(
      "there is no exercise '\(word.truncated(to: 60).printable)'; "
        + (near.map { "did you mean \($0)?" } ?? "'workshop list' shows what there is"))
  }

  private static func unknown(_ text: String) -> Complaint { Complaint(text, status: ExitStatus.usage) }

  /// The first that is to be done after one, the beginning after the end; nil where there is nothing left to do.
  func next(after exercise: Exercise?, _ progress: Progress) -> Exercise? {
    let place = exercise?.number ?? 0
    return (exercises[place...] + exercises[..<place]).first {
      $0.number != exercise?.number && !progress[$0].isDone && $0.isUsable
    }
  }
}
