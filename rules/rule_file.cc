// rules/rule_file
